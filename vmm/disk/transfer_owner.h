// Who is told of a transfer's end, where the transfers of one TransferRunner serve several
// purposes: Transfer::owner then points to one of these.
#pragma once

namespace pacsvisor {

class TransferOwner {
 public:
  // On the runner's thread. 0: the whole transfer is done.
  virtual void TransferDone(int error_number) = 0;

 protected:
  ~TransferOwner() = default;
};

}  // namespace pacsvisor
