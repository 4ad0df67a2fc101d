#include "devices/net/tap_interface.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "vmm/base/log.h"

namespace pacsvisor {
namespace {

constexpr const char* kTunDevice = "/dev/net/tun";

Status CheckName(const std::string& name) {
  // As the kernel's dev_valid_name; '%' would make it a pattern.
  const bool bad_character = std::ranges::any_of(
      name, [](char c) { return c == '/' || c == ':' || c == '%' || c <= ' ' || c == 0x7f; });
  if (name.empty() || name.size() >= IFNAMSIZ || bad_character || name == "." || name == "..") {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "'{}' cannot name a TAP interface: 1 to {} characters, no space, '/', ':' "
                       "or '%'",
                       name, IFNAMSIZ - 1);
  }
  return {};
}

ifreq RequestFor(const std::string& name) {
  ifreq request{};
  std::copy(name.begin(), name.end(), request.ifr_name);  // shorter than IFNAMSIZ: CheckName
  return request;
}

Result<UniqueFd> OpenTun() {
  UniqueFd fd(::open(kTunDevice, O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (fd.valid()) {
    return fd;
  }
  const int error_number = errno;
  Error error = Error::FromErrno(error_number, "cannot open {}", kTunDevice);
  if (error_number == ENOENT || error_number == ENODEV || error_number == ENXIO) {
    return Error::Make(ErrorCode::kNotFound,
                       "{}: this host's kernel has no TUN/TAP driver loaded (modprobe tun), or "
                       "use the user-mode network (backend = \"user\")",
                       error.message());
  }
  if (error_number == EACCES || error_number == EPERM) {
    return Error::Make(ErrorCode::kPermissionDenied,
                       "{}: give this user access to it, or use the user-mode network (backend = "
                       "\"user\")",
                       error.message());
  }
  return error;
}

Error AttachError(const std::string& name, int error_number) {
  Error error = Error::FromErrno(error_number, "cannot attach to TAP interface {}", name);
  switch (error_number) {
    case EBUSY:
      return Error::Make(ErrorCode::kBusy,
                         "{}: another process holds it; stop that machine or name another "
                         "interface",
                         error.message());
    case EPERM:
    case EACCES:
      return Error::Make(ErrorCode::kPermissionDenied,
                         "{}: an administrator can create it for this user: ip tuntap add dev {} "
                         "mode tap vnet_hdr user $USER",
                         error.message(), name);
    case EINVAL:
      return Error::Make(ErrorCode::kInvalidArgument,
                         "{}: there is an interface of that name which is no TAP interface, or "
                         "one with other flags (several queues); name another one",
                         error.message());
    default:
      return error;
  }
}

unsigned OffloadFlags(const NetOffloads& offloads) {
  unsigned flags = 0;
  if (offloads.checksum) {  // the kernel refuses segments without checksums
    flags |= TUN_F_CSUM;
    flags |= offloads.tcp4_segments ? TUN_F_TSO4 : 0u;
    flags |= offloads.tcp6_segments ? TUN_F_TSO6 : 0u;
    flags |= offloads.ecn_segments ? TUN_F_TSO_ECN : 0u;
  }
  return flags;
}

}  // namespace

Result<TapInterface> TapInterface::Open(const std::string& name) {
  TRY(CheckName(name));
  TapInterface tap(name, TRY(OpenTun()));
  TRY(tap.Attach());
  TRY(tap.SetHeaderSize());
  tap.ProbeOffloads();
  tap.WarnWhenDown();
  return tap;
}

bool TapInterface::Exists() const {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = RequestFor(name_);
  return ::ioctl(socket.get(), SIOCGIFINDEX, &request) == 0;
}

Status TapInterface::Reattach() const {
  // TUNSETIFF would make one, of which nobody's bridge knows.
  if (!Exists()) {
    return Error::Make(ErrorCode::kNotFound, "there is no interface {}", name_);
  }
  TRY(Attach());
  TRY(SetHeaderSize());
  WarnWhenDown();
  return {};
}

Status TapInterface::Attach() const {
  unsigned features = 0;
  if (::ioctl(fd_.get(), TUNGETFEATURES, &features) != 0 || (features & IFF_VNET_HDR) == 0) {
    return Error::Make(ErrorCode::kUnsupported,
                       "the TUN/TAP driver of this host has no virtio-net header (Linux 2.6.27 "
                       "and later have it)");
  }
  ifreq request = RequestFor(name_);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (::ioctl(fd_.get(), TUNSETIFF, &request) != 0) {
    return AttachError(name_, errno);
  }
  return {};
}

Status TapInterface::SetHeaderSize() const {
  const int size_bytes = sizeof(VirtioNetHeader);
  if (::ioctl(fd_.get(), TUNSETVNETHDRSZ, &size_bytes) != 0) {
    return Error::FromErrno(errno, "TAP interface {} refuses headers of {} bytes", name_,
                            size_bytes);
  }
  return {};
}

void TapInterface::ProbeOffloads() {
  constexpr std::array<NetOffloads, 3> kChoices = {{
      {.checksum = true, .tcp4_segments = true, .tcp6_segments = true, .ecn_segments = true},
      {.checksum = true, .tcp4_segments = true, .tcp6_segments = true},
      {.checksum = true},
  }};
  for (const NetOffloads& choice : kChoices) {
    if (SetOffloads(choice).ok()) {
      offloads_ = choice;
      break;
    }
  }
  // Whole frames until a driver has said what it takes. None at all is accepted by every kernel.
  if (const Status none = SetOffloads({}); !none.ok()) {
    Log(LogLevel::kWarning, "{}", none.error().message());
  }
}

void TapInterface::WarnWhenDown() const {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = RequestFor(name_);
  if (::ioctl(socket.get(), SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) == 0) {
    Log(LogLevel::kWarning, "TAP interface {} is down: no frame passes until 'ip link set {} up'",
        name_, name_);
  }
}

Status TapInterface::SetOffloads(const NetOffloads& offloads) const {
  // The argument is the flags themselves.
  if (::ioctl(fd_.get(), TUNSETOFFLOAD, static_cast<unsigned long>(OffloadFlags(offloads))) != 0) {
    return Error::FromErrno(errno, "TAP interface {} refuses offloads {:#x}", name_,
                            OffloadFlags(offloads));
  }
  return {};
}

}  // namespace pacsvisor
