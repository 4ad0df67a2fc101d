#!/usr/bin/python3
"""Reads a snapshot store by vmm/store/FORMAT.md alone; it shares no code with pacsvisor.

usage: store_reader.py [--key FILE] STORE COMMAND
       list                     the snapshots, newest last, one JSON object a line
       extract ID SPACE FILE    a space's bytes ('-': standard output)
       state ID FILE            the machine state's bytes
       check                    every object, root and pack against its hashes

STORE is a store's directory, or the file of an exported snapshot; --key is for one that is encrypted.
A section sign in a comment names that section of FORMAT.md. What breaks the format, or a hash, ends
the program with status 1 and one line that says where. Needs python3-zstandard, python3-xxhash,
python3-cryptography.
"""

import bisect
import hashlib
import hmac
import json
import os
import struct
import sys

import xxhash
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

VERSION = 1
BLOCK = 4096
KEY_SHIFT = 52
SPACES = 64


class Damaged(Exception):
    pass


def need(condition, where, why):
    if not condition:
        raise Damaged(f"{where}: {why}")


def sha(data):
    return hashlib.sha256(data).digest()


def read_whole(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Damaged(f"{path}: {error.strerror}") from error


class Bytes:
    """Takes numbers from bytes, in order."""

    def __init__(self, data, where):
        self.data, self.at, self.where = data, 0, where

    def left(self):
        return len(self.data) - self.at

    def raw(self, count):
        need(count <= self.left(), self.where, f"ends before byte {self.at + count}")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, kind):
        return struct.unpack("<" + kind, self.raw(struct.calcsize("<" + kind)))[0]

    def u16(self):
        return self.number("H")

    def u32(self):
        return self.number("I")

    def u64(self):
        return self.number("Q")

    def zero(self, count):
        need(self.raw(count) == bytes(count), self.where, "bytes that must be zero are not")

    def varint(self):
        value = 0
        for index in range(10):
            byte = self.raw(1)[0]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                need(byte or not index, self.where, "a varint that is longer than needed")
                need(value < 1 << 64, self.where, "a varint of more than 64 bits")
                return value
        raise Damaged(f"{self.where}: a varint of more than 10 bytes")


CHUNK, PAGE, STATE, ROOT = 1, 2, 3, 4


def unseal(key, kind, name, data, where):
    """§12"""
    need(len(data) > 28, where, "too short for what is sealed")
    try:
        return AESGCM(key).decrypt(data[:12], data[12:], struct.pack("<II", kind, 1) + name)
    except InvalidTag as error:
        raise Damaged(f"{where}: damaged, or of another key") from error


def unseal_padded(key, kind, name, data, where):
    plain = unseal(key, kind, name, data, where)
    need(len(plain) % 256 == 0, where, "is not padded")
    length = struct.unpack("<I", plain[:4])[0]
    padding = plain[4 + length:]
    need(length + 4 <= len(plain) and len(padding) < 256 and not any(padding), where,
         "is not padded")
    return plain[4:4 + length]


def hkdf(secret, info, salt=None):
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(secret)


class Secret:
    """§12: what the key file of a store opens."""

    def __init__(self, key_file, store_key, key_check, path):
        need(key_file is not None, path, "encrypted: --key FILE")
        key = read_whole(key_file)
        need(len(key) == 32, key_file, "no key file")
        file = Bytes(store_key, path)
        need(file.raw(8) == b"PVSTKEY1" and file.u32() == VERSION, path, "no wrapped secret")
        file.zero(4)
        salt, wrapped = file.raw(16), file.raw(40)
        file.zero(24)
        need(file.raw(32) == sha(store_key[:96]) and file.left() == 0, path, "damaged")
        try:
            self._secret = aes_key_unwrap(hkdf(key, b"pacsvisor store secret", salt), wrapped)
        except InvalidUnwrap as error:
            raise Damaged(f"{key_file}: not the store's key") from error
        check = hmac.digest(self._secret, b"pacsvisor store key check" + key_check[:16], "sha256")
        need(key_check[16:] == bytes(8) + check, path, "another store's")

    def chunk_name(self, contents_hash):
        return hmac.digest(self._secret, contents_hash, "sha256")

    def snapshot_key(self, data, path):
        file = Bytes(data, path)
        need(file.raw(8) == b"PVSNKEY1" and file.u32() == VERSION, path, "no wrapped key")
        file.zero(4)
        wrapped = file.raw(40)
        file.zero(8)
        need(file.raw(32) == sha(data[:64]) and file.left() == 0, path, "damaged")
        try:
            return aes_key_unwrap(hkdf(self._secret, b"pacsvisor snapshot keys"), wrapped)
        except InvalidUnwrap as error:
            raise Damaged(f"{path}: of another store") from error


class Pack:
    """§4"""

    def __init__(self, path, number, store_id, raw_length):
        self.path, self.number = path, number
        self.data = read_whole(path)
        need(len(self.data) >= 64 + 96, path, "too short for a pack")
        head = Bytes(self.data[:64], path)
        need(head.raw(8) == b"PVPACK01", path, "no pack")
        need(head.u32() == VERSION, path, "of another version")
        need(head.u32() == number, path, "has another pack's number")
        need(head.raw(16) == store_id, path, "of another store")
        need(head.raw(32) == sha(self.data[:32]), path, "its header is damaged")
        trailer_at = len(self.data) - 96
        trailer = Bytes(self.data[trailer_at:], path)
        self.directory_at = trailer.u64()
        count = trailer.u32()
        need(trailer.u32() == number, path, "its trailer has another number")
        directory_hash, self._xxh = trailer.raw(32), trailer.u64()
        need(trailer.raw(8) == b"PVPACKED", path, "has no end")
        need(trailer.raw(32) == sha(self.data[trailer_at:trailer_at + 64]), path,
             "its trailer is damaged")
        need(count >= 1 and self.directory_at + count * 22 == trailer_at, path,
             "its directory has not the length that it says")
        directory = self.data[self.directory_at:trailer_at]
        need(sha(directory) == directory_hash, path, "its directory is damaged")
        self.chunks = {}  # the first 20 bytes of a name: where
        offset, entries = 64, Bytes(directory, path)
        for _ in range(count):
            short, length = entries.raw(20), entries.u16()
            need(1 <= length <= raw_length, path, "a chunk's length")
            self.chunks.setdefault(short, []).append((offset, length))
            offset += length
        need(offset == self.directory_at, path, "its chunks do not end where the directory begins")

    def check(self):
        need(xxhash.xxh3_64_intdigest(self.data[:self.directory_at]) == self._xxh, self.path,
             "its chunks are damaged")


class Table:
    """§5, unpacked: sorted runs of (first key, count, None or (pack, offset, length, name, key))."""

    def __init__(self, path, name, data, key=None):
        self.path = path
        self._sealed = key is not None
        self.data = data
        need(len(self.data) > 16, path, "too short for a table")
        tail = Bytes(self.data[-16:], path)
        root_length = tail.u32()
        need(tail.u32() == VERSION and tail.raw(8) == b"PVTABLE1", path, "no table")
        need(0 < root_length <= len(self.data) - 16, path, "the root page's length")
        self.runs = []
        self._covered = 0
        root_at = len(self.data) - 16 - root_length
        self._page(root_at, root_length, (name, key), None, 0, 1 << 64)
        need(self._covered == len(self.data) - 16, path, "its pages do not cover it")
        self.firsts = [run[0] for run in self.runs]

    def _page(self, at, length, proof, level, least, below):
        name, key = proof
        need(length <= (65820 if self._sealed else 64 << 10) and at + length <= len(self.data), self.path, "a page's place")
        data = self.data[at:at + length]
        need(sha(data) == name, self.path, f"the page at {at} is damaged")
        if self._sealed:
            data = unseal_padded(key, PAGE, b"", data, f"{self.path}, page at {at}")
            need(len(data) <= 64 << 10, self.path, "a page's length")
        page = Bytes(data, f"{self.path}, page at {at}")
        own = page.number("B")
        need(own <= 7 and (level is None or own == level), page.where, "its level")
        page.zero(3)
        count = page.u32()
        need(count >= 1, page.where, "no entries")
        if own == 0:
            self._leaf(page, count, least, below)
        else:
            entries = []
            for _ in range(count):
                key, offset, size = page.u64(), page.u64(), page.u32()
                page.zero(4)
                entries.append((key, offset, size,
                                (page.raw(32), page.raw(32) if self._sealed else None)))
            for index, (key, offset, size, child) in enumerate(entries):
                following = entries[index + 1][0] if index + 1 < count else below
                need(least <= key < following, page.where, "keys that do not ascend")
                need(offset + size <= at, page.where, "a page that is not below it")
                self._page(offset, size, child, own - 1, key, following)
        need(page.left() == 0, page.where, "bytes behind its entries")
        self._covered += length

    def _leaf(self, page, count, least, below):
        end, place = 0, None
        for _ in range(count):
            lead = page.varint()
            key, kind = end + lead // 4, lead % 4
            if kind == 0:
                blocks, chunk = page.varint(), None
                need(blocks >= 1, page.where, "a run of no blocks")
            else:
                blocks = 1
                pack = page.varint() if kind == 3 else None
                if kind == 1:
                    need(place is not None, page.where, "a place that nothing precedes")
                    pack, offset = place
                else:
                    if pack is None:
                        need(place is not None, page.where, "a pack that nothing precedes")
                        pack = place[0]
                    offset = page.varint()
                raw_length = BLOCK + 28 if self._sealed else BLOCK
                length = page.varint() or raw_length
                need(length <= raw_length, page.where, "a chunk's length")
                chunk = (pack, offset, length, page.raw(32),
                         page.raw(32) if self._sealed else None)
                place = (pack, offset + length)
            end = key + blocks
            need(least <= key and end <= below, page.where, "a key outside the page's part")
            need(key >> KEY_SHIFT == (end - 1) >> KEY_SHIFT, page.where, "a run over two spaces")
            self.runs.append((key, blocks, chunk))

    def find(self, key):
        """(found, chunk, until which key this holds)"""
        index = bisect.bisect_right(self.firsts, key) - 1
        if index >= 0:
            first, blocks, chunk = self.runs[index]
            if key < first + blocks:
                return True, chunk, first + blocks
        following = self.firsts[index + 1] if index + 1 < len(self.firsts) else 1 << 64
        return False, None, following


class Root:
    """§7"""

    MANDATORY = {2, 3, 4, 5, 8, 10, 11, 12}
    MANY = {6, 7, 8, 11}

    def __init__(self, data, path, key=None):
        self.path, self.id = path, sha(data).hex()
        self._keyed = key is not None
        if self._keyed:
            need(data[16:28] == struct.pack("<HHII", 13, 1, 16, 1), path, "its field 13")
            data = data[:16] + unseal_padded(key, ROOT, data[:28], data[28:], path)
        self.parent, self.spaces, self.tables, self.state = None, [], [], None
        self.texts, self.figures, self.values, self.packs = {}, {}, {}, None
        file = Bytes(data, path)
        need(len(data) <= 16 << 20, path, "too large for a root")
        need(file.raw(8) == b"PVSNAP01" and file.u32() == VERSION, path, "no root of version 1")
        file.zero(4)
        last = 0
        while file.left():
            tag, flags, length = file.u16(), file.u16(), file.u32()
            field = Bytes(file.raw(length), f"{path}, field {tag}")
            need(tag > last or (tag == last and tag in self.MANY), path, "tags that do not ascend")
            need(flags in (0, 1), field.where, "flags")
            last = tag
            if not self._take(tag, field, length):
                need(flags == 0, field.where, "mandatory and unknown: of a newer pacsvisor")
                continue
            need(flags == (tag in self.MANDATORY), field.where, "flags")
            need(field.left() == 0, field.where, "bytes behind its end")
        for tag in (2, 4, 5):
            need(tag in self.values, path, f"no field {tag}")
        need(self.spaces and self.packs is not None, path, "no spaces, or no field 12")

    def _take(self, tag, field, length):
        if tag == 1:
            self.parent = field.raw(32).hex()
        elif tag in (2, 3, 5):
            self.values[tag] = field.raw(length).decode("utf-8", "surrogateescape")
        elif tag == 4:
            self.values[tag] = field.u64()
        elif tag == 6:
            key = field.raw(field.u16()).decode("utf-8", "surrogateescape")
            self.texts[key] = field.raw(field.left()).decode("utf-8", "surrogateescape")
        elif tag == 7:
            value = field.u64()
            self.figures[field.raw(field.left()).decode("utf-8", "surrogateescape")] = value
        elif tag == 8:
            number, block, size = field.u32(), field.u32(), field.u64()
            name = field.raw(field.left()).decode("utf-8", "surrogateescape")
            need(number < SPACES and block == BLOCK and 1 <= size <= 1 << 60 and name,
                 field.where, "a space that cannot be")
            self.spaces.append({"number": number, "name": name, "bytes": size})
        elif tag == 9:
            field.raw(56)
        elif tag == 10:
            self.state = (field.raw(32), field.u64(), field.u64(), self._key(field))
        elif tag == 11:
            self.tables.append((field.raw(32), field.u64(), field.u64(), self._key(field)))
        elif tag == 12:
            self.packs = field.u32()
        else:
            return False
        return True

    def _key(self, field):
        return field.raw(32) if self._keyed else None

    def as_json(self):
        return {"id": self.id, "parent": self.parent, "machine": self.values[2],
                "message": self.values.get(3, ""), "instant_ns": self.values[4],
                "consistency": self.values[5], "spaces": self.spaces, "texts": self.texts,
                "figures": self.figures}


class Store:
    def __init__(self, path, key_file=None):
        self.path = path
        header_path = os.path.join(path, "pacsvisor-store")
        header = Bytes(read_whole(header_path), header_path)
        need(len(header.data) == 128 and header.raw(8) == b"PVSTORE1", path, "no store")
        need(header.u32() == VERSION, path, "of a newer format")
        need(header.u32() == 128, path, "its header's length")
        self.id = header.raw(16)
        need(header.u32() == BLOCK, path, "another block size")
        cipher, key_check, self._secret = header.u32(), header.raw(56), None
        if cipher == 0:
            need(key_check == bytes(56), path, "bytes that must be zero are not")
        else:
            need(cipher == 1, path, "an unknown cipher")
            secret_path = os.path.join(path, "keys", "store")
            self._secret = Secret(key_file, read_whole(secret_path), key_check, secret_path)
        need(header.raw(32) == sha(header.data[:96]), path, "its header is damaged")
        self._packs, self._tables = {}, {}

    def roots(self):
        folder = os.path.join(self.path, "snapshots")
        found = []
        for name in sorted(os.listdir(folder)):
            stem, dot, end = name.rpartition(".")
            if end == "snapshot" and dot and len(stem) == 64:
                path = os.path.join(folder, name)
                root = self._root_of(stem, read_whole(path), path)
                need(root.id == stem, path, "damaged: its name is not its hash")
                found.append(root)
        return sorted(found, key=lambda root: root.values[4])

    def _root_of(self, stem, data, path):
        need(sha(data).hex() == stem, path, "damaged: its name is not its hash")
        if self._secret is None:
            return Root(data, path)
        key_path = os.path.join(self.path, "keys", stem)
        return Root(data, path, self._secret.snapshot_key(read_whole(key_path), key_path))

    def root(self, start):
        matching = [root for root in self.roots() if root.id.startswith(start)]
        need(len(matching) == 1, self.path, f"{len(matching)} snapshots begin with {start}")
        return matching[0]

    def _object(self, name):
        return os.path.join(self.path, "objects", name.hex()[:2], name.hex())

    def _object_bytes(self, name):
        return read_whole(self._object(name))

    def table(self, entry):
        name, length, _, key = entry
        if name not in self._tables:
            path = self._object(name)
            table = Table(path, name, self._object_bytes(name), key)
            need(len(table.data) == length, path, "another length than the root says")
            self._tables[name] = table
        return self._tables[name]

    def pack(self, number):
        if number not in self._packs:
            path = os.path.join(self.path, "packs", f"{number:08x}.pack")
            self._packs[number] = Pack(path, number, self.id, BLOCK + 28 if self._secret
                                       else BLOCK) if os.path.exists(path) else None
        return self._packs[number]

    def pack_numbers(self):
        return [int(name[:8], 16) for name in sorted(os.listdir(os.path.join(self.path, "packs")))
                if len(name) == 13 and name.endswith(".pack")]

    def _unpack(self, stored, name, key):
        """§3: the block, or None where this is another chunk."""
        if key is not None:
            try:
                stored = unseal(key, CHUNK, name, stored, self.path)
            except Damaged:
                return None
            if len(stored) < BLOCK:
                frame = zstandard.ZstdDecompressor().decompressobj()
                try:
                    block = frame.decompress(stored)
                except zstandard.ZstdError:
                    return None
                if any(frame.unused_data) or len(stored) % 256:
                    return None
                stored = block
            return stored if self._secret.chunk_name(sha(stored)) == name else None
        try:
            block = stored if len(stored) == BLOCK else \
                zstandard.ZstdDecompressor().decompress(stored, max_output_size=BLOCK)
        except zstandard.ZstdError:
            return None
        return block if len(block) == BLOCK and sha(block) == name else None

    def chunk(self, place):
        number, offset, length, name, key = place
        pack = self.pack(number)
        if pack is not None and offset + length <= pack.directory_at:
            block = self._unpack(pack.data[offset:offset + length], name, key)
            if block is not None:
                return block
        for other in self.pack_numbers():  # a place is a hint: §5
            pack = self.pack(other)
            for offset, length in pack.chunks.get(name[:20], []) if pack else []:
                block = self._unpack(pack.data[offset:offset + length], name, key)
                if block is not None:
                    return block
        raise Damaged(f"{self.path}: no pack has the chunk {name.hex()} whole "
                      f"(it should be in pack {number:08x} at {offset})")

    def extract(self, root, name, write):
        [space] = [one for one in root.spaces if one["name"] == name] or [None]
        need(space, root.path, f"no space {name}; it has "
             + ", ".join(one["name"] for one in root.spaces))
        tables = [self.table(entry) for entry in root.tables]
        key = space["number"] << KEY_SHIFT
        left = space["bytes"]
        while left > 0:
            until = 1 << 64
            for table in tables:
                found, chunk, holds = table.find(key)
                until = min(until, holds)
                if found:
                    break
            else:
                raise Damaged(f"{root.path}: no table tells of block "
                              f"{key & ((1 << KEY_SHIFT) - 1)} of {name}")
            if chunk is not None:
                write(self.chunk(chunk)[:left])
                key, left = key + 1, left - BLOCK
                continue
            blocks = min(until - key, -(-left // BLOCK))
            for _ in range(blocks):
                write(bytes(min(BLOCK, left)))
                left -= BLOCK
            key += blocks

    def state(self, root):
        """§6"""
        if root.state is None:
            return b""
        name, length, plain_length, key = root.state
        path = self._object(name)
        data = self._object_bytes(name)
        need(sha(data) == name and len(data) == length, path, "damaged")
        if key is not None:
            data = unseal_padded(key, STATE, b"", data, path)
        file = Bytes(data, path)
        need(file.raw(8) == b"PVSTATE1", path, "no state")
        codec = file.u32()
        file.zero(4)
        need(file.u64() == plain_length <= 1 << 30, path, "its length")
        plain = file.raw(file.left())
        if codec:
            need(codec == 1, path, "an unknown codec")
            plain = zstandard.ZstdDecompressor().decompress(plain, max_output_size=plain_length)
        need(len(plain) == plain_length, path, "its length")
        return plain

    def holds(self):
        """§10"""
        folder = os.path.join(self.path, "holds")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if len(name) > 65 and name[64] == "-":
                path = os.path.join(folder, name)
                yield {"id": name[:64], "word": name[65:], **read_hold(read_whole(path), path)}

    def check(self):
        for number in self.pack_numbers():
            self.pack(number).check()
        list(self.holds())
        for root in self.roots():
            self.state(root)
            for space in root.spaces:
                self.extract(root, space["name"], lambda data: None)


def read_hold(data, path):
    """§10"""
    file = Bytes(data, path)
    need(file.raw(8) == b"PVHOLD01" and file.u32() == VERSION, path, "no hold of version 1")
    length, until, made = file.u32(), file.u64(), file.u64()
    need(length <= 255, path, "its text's length")
    text = file.raw(length).decode("utf-8", "surrogateescape")
    need(file.raw(32) == sha(data[:32 + length]) and file.left() == 0, path, "damaged")
    return {"until_ns": until, "made_ns": made, "text": text}


class Export(Store):
    """§13"""

    def __init__(self, path, key_file=None):
        self.path, self._secret, key = path, None, None
        self._tables, self._objects, self._chunks, self._holds = {}, {}, {}, []
        file = Bytes(read_whole(path), path)
        need(file.raw(8) == b"PVEXPRT1", path, "no export")
        need(file.u32() == VERSION and file.u32() == BLOCK, path, "of a newer format")
        cipher = file.u32()
        need(cipher in (0, 1), path, "an unknown cipher")
        root_length, snapshot = file.u32(), file.raw(32)
        file.zero(8)
        if cipher:
            key_check = file.raw(56)
            self._secret = Secret(key_file, file.raw(128), key_check, path)
            key = self._secret.snapshot_key(file.raw(96), path)
        data = file.raw(root_length)
        need(sha(data) == snapshot, path, "its root is damaged")
        self._root = Root(data, path, key)
        if self._root.state is not None:
            self._objects[self._root.state[0]] = file.raw(self._root.state[1])
        for name, length, _, _ in self._root.tables:
            self._objects[name] = file.raw(length)
        holds = file.u32()
        need(holds <= 4096, path, "more holds than can be")
        for _ in range(holds):
            word_length, length = file.u16(), file.u16()
            word = file.raw(word_length).decode("ascii", "replace")
            self._holds.append({"id": snapshot.hex(), "word": word,
                                **read_hold(file.raw(length), path)})
        count = 0
        while length := file.u16():
            need(length <= BLOCK + (28 if cipher else 0), path, f"the length of chunk {count}")
            if cipher:
                name = file.raw(32)
                self._chunks[name] = file.raw(length)
                count += 1
                continue
            stored = file.raw(length)
            try:
                block = stored if length == BLOCK else \
                    zstandard.ZstdDecompressor().decompress(stored, max_output_size=BLOCK)
            except zstandard.ZstdError as error:
                raise Damaged(f"{path}: chunk {count}: {error}") from error
            need(len(block) == BLOCK, path, f"chunk {count} is no block")
            self._chunks[sha(block)] = block
            count += 1
        end = file.at
        need(file.u64() == count, path, "another count of chunks")
        need(file.raw(32) == sha(file.data[:end]), path, "a byte of it is not as written")
        need(file.raw(8) == b"PVEXPEND" and file.left() == 0, path, "its end")

    def roots(self):
        return [self._root]

    def _object(self, name):
        return f"{self.path}, object {name.hex()}"

    def _object_bytes(self, name):
        return self._objects[name]

    def pack_numbers(self):
        return []

    def holds(self):
        return self._holds

    def chunk(self, place):
        name, key = place[3:]
        need(name in self._chunks, self.path, f"has no chunk {name.hex()}")
        if key is None:
            return self._chunks[name]
        block = self._unpack(self._chunks[name], name, key)
        need(block is not None, self.path, f"chunk {name.hex()} is damaged")
        return block


def run(arguments):
    key_file = None
    if arguments[0] == "--key" and len(arguments) > 2:
        key_file, arguments = arguments[1], arguments[2:]
    store = (Store if os.path.isdir(arguments[0]) else Export)(arguments[0], key_file)
    match arguments[1:]:
        case ["list"]:
            for root in store.roots():
                print(json.dumps(root.as_json()))
        case ["check"]:
            store.check()
        case ["extract", snapshot, space, path]:
            root = store.root(snapshot)
            if path == "-":
                store.extract(root, space, sys.stdout.buffer.write)
            else:
                with open(path, "wb") as file:
                    store.extract(root, space, file.write)
        case ["state", snapshot, path]:
            data = store.state(store.root(snapshot))
            with open(path, "wb") as file:
                file.write(data)
        case _:
            return 2
    return 0


def main():
    if len(sys.argv) < 3 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0 if "--help" in sys.argv or "-h" in sys.argv else 2
    try:
        status = run(sys.argv[1:])
    except Damaged as damage:
        print(f"error: {damage}", file=sys.stderr)
        return 1
    if status == 2:
        print(__doc__, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
