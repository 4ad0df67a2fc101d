// Threads that do what nobody's request waits for, behind those that run the guest and its disks.
// Threads: each function is for the one that calls it. What is lowered is also of those that it
// starts from then on; there is no way back without privileges.
#pragma once

namespace pacsvisor {

// The host's disks serve it last of what is not idle: best effort, lowest level (ioprio_set(2)),
// where their scheduler knows levels (bfq; mq-deadline knows the classes alone). Not the idle
// class: where a journal waits for data that is idle (ext4's ordered mode), every fsync on that
// file system waits with it, the guest's as well.
void LowerIoPriority();

// Less of a processor that others want too: a third of what it would have had.
void LowerCpuPriority();

// For long work, between two small pieces of it: whoever waits for this thread's processor gets it,
// half a millisecond after this thread has had it at the latest. Without this the scheduler lets a
// guest wait until its next tick, 4 ms on most kernels. Costs nothing where nobody waits.
void LetOthersRun();

}  // namespace pacsvisor
