// pacsvisor store: stores themselves, and their keys.
#include <sys/stat.h>

#include <cerrno>
#include <memory>
#include <string>

#include "vmm/cli/command.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/cli/store_path.h"

namespace pacsvisor {
namespace {

constexpr char kStoreFooter[] =
    R"(A store that 'pacsvisor run' or 'pacsvisor import' needs is made by them; 'create' makes one by hand.

A key file is 32 random bytes, kept outside of the store. It opens the store's own secret, a small file
in the store, with which everything in it is encrypted (AES-256-GCM): snapshots, their names, messages
and configurations. Without the key file nothing can be read, by nobody: keep a copy of it elsewhere.
What is visible without it: sizes, times of files, and which snapshots share data.

Examples:
  pacsvisor store new-key /etc/pacsvisor/store.key
  pacsvisor store create /srv/store --key /etc/pacsvisor/store.key
  pacsvisor store change-key --store /srv/store --key old.key --new-key new.key

In VM.toml:
  [store]
  path = "/srv/store"
  key = "/etc/pacsvisor/store.key")";

constexpr char kCreateStoreFooter[] =
    R"(An empty store in DIR, which is made, or empty. With --key an encrypted one; a store cannot be
encrypted later.)";

constexpr char kNewKeyFooter[] =
    R"(32 random bytes in a new file that only its owner may read. Keep a copy of it elsewhere.)";

constexpr char kChangeKeyFooter[] =
    R"(From now on the store opens with the new key file and no other. Its data is not written again: the
secret that encrypts it stays, and whoever had the old key file and a copy of the file keys/store from
before can still get at it. Exports that were made before need the old key file. Machines that run go on;
change 'key' in their VM.toml.)";

struct StoreOptions {
  StorePlace place;
  std::string new_key;
};

Status CreateStore(const StoreOptions& options) {
  const std::shared_ptr<const StoreKey> key = TRY(ReadKeyFile(options.place.key));
  if (::mkdir(options.place.path.c_str(), 0700) != 0 && errno != EEXIST) {
    return Error::FromErrno(errno, "cannot make the store's directory {}", options.place.path);
  }
  return Store::Create(*TRY(StoreFiles::OpenDirectory(options.place.path)), key.get());
}

Status ChangeStoreKeyFile(const StoreOptions& options) {
  const std::shared_ptr<const StoreKey> key = TRY(ReadKeyFile(options.new_key));
  const std::unique_ptr<Store> store = TRY(OpenStoreAt(options.place));
  return store->ChangeKey(*key);
}

ExitStatus TellDone(const Status& done, const std::string& sentence) {
  if (!done.ok()) {
    return Fail(done.error());
  }
  Print(stdout, "{}\n", sentence);
  return ExitStatus::kDone;
}

}  // namespace

void AddStoreCommand(CLI::App& app, ExitStatus* status) {
  auto options = std::make_shared<StoreOptions>();
  CLI::App* store = app.add_subcommand("store", "Make a store of snapshots, and its key");
  store->require_subcommand(1);
  store->footer(kStoreFooter);

  CLI::App* create = store->add_subcommand("create", "Make an empty store");
  create->add_option("DIR", options->place.path, "Its directory")->required();
  create->add_option("--key", options->place.key, "Encrypt it with this key file");
  create->footer(kCreateStoreFooter);
  create->callback([options, status] {
    *status = TellDone(CreateStore(*options),
                       fmt::format("store {} made{}", options->place.path,
                                   options->place.key.empty() ? "" : ", encrypted"));
  });

  CLI::App* new_key = store->add_subcommand("new-key", "Make a key file");
  new_key->add_option("FILE", options->new_key, "A new file")->required();
  new_key->footer(kNewKeyFooter);
  new_key->callback([options, status] {
    *status =
        TellDone(StoreKey::MakeFile(options->new_key),
                 fmt::format("key file {} made: keep a copy of it elsewhere", options->new_key));
  });

  CLI::App* change =
      store->add_subcommand("change-key", "Give an encrypted store another key file");
  AddStoreOption(*change, options->place);
  change->get_option("--store")->required();
  change->get_option("--key")->required();
  change->add_option("--new-key", options->new_key, "The key file to open it with from now on")
      ->required();
  change->footer(kChangeKeyFooter);
  change->callback([options, status] {
    *status = TellDone(
        ChangeStoreKeyFile(*options),
        fmt::format("store {} opens with {} from now on", options->place.path, options->new_key));
  });
}

}  // namespace pacsvisor
