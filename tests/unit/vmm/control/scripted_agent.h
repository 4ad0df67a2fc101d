// A guest's agent behind a LocalLine that answers as qemu-guest-agent does, but where a test's
// script has it otherwise.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "vmm/base/local_line.h"

namespace pacsvisor {

class ScriptedAgent {
 public:
  // What it says to a command, byte for byte; none: what an agent says.
  using Script = std::function<std::optional<std::string>(ScriptedAgent&, const std::string&)>;

  explicit ScriptedAgent(LocalLine& line, Script script = {})
      : line_(line), script_(std::move(script)) {
    line_.SetListened(true);
    line_.OnNews([this] {
      const std::lock_guard lock(mutex_);
      news_ = true;
      changed_.notify_all();
    });
    thread_ = std::thread([this] { Work(); });
  }
  ~ScriptedAgent() {
    line_.OnNews(nullptr);
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }

  std::vector<std::string> commands() {
    const std::lock_guard lock(mutex_);
    return commands_;
  }
  bool frozen() {
    const std::lock_guard lock(mutex_);
    return frozen_;
  }
  // Of the last guest-set-time.
  int64_t time_ns() {
    const std::lock_guard lock(mutex_);
    return time_ns_;
  }

  // An agent's answer; does what it says. With mutex_ held: for scripts.
  std::string Answer(const std::string& command) {
    if (command == "guest-sync-delimited") {
      return "\xff{\"return\": " + std::to_string(sync_id_) + "}\n";
    }
    if (command == "guest-fsfreeze-status") {
      return frozen_ ? "{\"return\": \"frozen\"}\n" : "{\"return\": \"thawed\"}\n";
    }
    if (command == "guest-fsfreeze-freeze" && !frozen_) {
      frozen_ = true;
      return "{\"return\": 2}\n";
    }
    if (command == "guest-fsfreeze-thaw") {
      frozen_ = false;
      return "{\"return\": 2}\n";
    }
    if (command == "guest-set-time" && !frozen_) {
      return "{\"return\": {}}\n";
    }
    return Refusal("the command " + command + " is disabled for this instance");
  }
  static std::string Refusal(const std::string& words) {
    return nlohmann::json{{"error", {{"class", "GenericError"}, {"desc", words}}}}.dump() + "\n";
  }

 private:
  void Work() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      changed_.wait(lock, [this] { return news_ || stopping_; });
      news_ = false;
      std::array<uint8_t, 100> piece;
      lock.unlock();
      while (const size_t size = line_.Take(piece)) {
        heard_.append(piece.begin(), piece.begin() + static_cast<ptrdiff_t>(size));
      }
      lock.lock();
      AnswerAll(lock);
    }
  }
  void AnswerAll(std::unique_lock<std::mutex>& lock) {
    for (size_t end; (end = heard_.find('\n')) != std::string::npos;) {
      std::string text = heard_.substr(0, end);
      heard_.erase(0, end + 1);
      text.erase(0, text.rfind('\xff') + 1);
      const auto request = nlohmann::json::parse(text);
      const std::string command = request.at("execute");
      if (request.contains("arguments")) {
        sync_id_ = request["arguments"].value("id", sync_id_);
        time_ns_ = request["arguments"].value("time", time_ns_);
      }
      commands_.push_back(command);
      std::optional<std::string> answer = script_ ? script_(*this, command) : std::nullopt;
      if (!answer) {
        answer = Answer(command);
      }
      lock.unlock();
      Say(*answer);
      lock.lock();
    }
  }
  // Whole, or until the line is closed.
  void Say(const std::string& text) {
    std::vector<uint8_t> bytes(text.begin(), text.end());
    std::span<const uint8_t> left(bytes);
    while (!left.empty()) {
      left = left.subspan(line_.Give(left));
      std::this_thread::yield();
    }
  }

  LocalLine& line_;
  const Script script_;
  std::string heard_;  // the thread's
  std::mutex mutex_;
  std::condition_variable changed_;
  bool news_ = false;
  bool stopping_ = false;
  bool frozen_ = false;
  int64_t sync_id_ = 0;
  int64_t time_ns_ = 0;
  std::vector<std::string> commands_;
  std::thread thread_;
};

}  // namespace pacsvisor
