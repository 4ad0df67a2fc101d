#include "vmm/control/http_engine.h"

#include <httplib.h>

#include <charconv>
#include <optional>
#include <string>

#include "vmm/control/http_stream.h"
#include "vmm/control/machine_json.h"

namespace pacsvisor {
namespace {

constexpr char kJson[] = "application/json";

ApiResponse Refusal(int status, std::string_view code, std::string_view message) {
  return {.status = status, .body = ErrorToJson(code, message)};
}

// Digits alone, once; nothing when it is anything else.
std::optional<size_t> ContentLength(const httplib::Request& request) {
  if (!request.has_header("Content-Length")) {
    return 0;
  }
  const std::string text = request.get_header_value("Content-Length");
  size_t length = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  if (request.get_header_value_count("Content-Length") != 1 || error != std::errc() ||
      end != text.data() + text.size()) {
    return std::nullopt;
  }
  return length;
}

bool IsJson(const std::string& content_type) {
  return content_type.empty() || content_type == kJson ||
         content_type.starts_with(std::string(kJson) + ";");
}

// What is refused by its head, before a byte of its body is read.
std::optional<ApiResponse> RefuseHead(const httplib::Request& request) {
  if (request.has_header("Transfer-Encoding")) {
    return Refusal(411, "length_required", "send the body whole, with a Content-Length");
  }
  const std::optional<size_t> length = ContentLength(request);
  if (!length) {
    return Refusal(400, "invalid_argument", "Content-Length is no number");
  }
  if (*length > kRequestBodyLimitBytes) {
    return Refusal(
        413, "too_large",
        fmt::format("the body has {} bytes: at most {} are read", *length, kRequestBodyLimitBytes));
  }
  if (std::optional<ApiResponse> refusal = ControlApi::Refuse(request.method, request.path)) {
    return refusal;
  }
  if (*length > 0 && request.method != "PUT" && request.method != "POST") {
    return Refusal(400, "invalid_argument", "only PUT and POST take a body");
  }
  if (*length > 0 && (request.has_header("Content-Encoding") ||
                      !IsJson(request.get_header_value("Content-Type")))) {
    return Refusal(415, "unsupported",
                   "send JSON: Content-Type: application/json, no Content-Encoding");
  }
  return std::nullopt;
}

void Write(ApiResponse&& answer, httplib::Response& response) {
  response.status = answer.status;
  response.set_content(answer.body, kJson);
  if (!answer.allow.empty()) {
    response.set_header("Allow", answer.allow);
  }
}

}  // namespace

class HttpEngine::Server : public httplib::Server {
 public:
  explicit Server(ControlApi& api) {
    set_pre_routing_handler([](const httplib::Request& request, httplib::Response& response) {
      std::optional<ApiResponse> refusal = RefuseHead(request);
      if (!refusal) {
        return HandlerResponse::Unhandled;
      }
      Write(*std::move(refusal), response);
      response.set_header("Connection", "close");
      return HandlerResponse::Handled;
    });
    const Handler handler = [&api](const httplib::Request& request, httplib::Response& response) {
      Write(api.Handle(request.method, request.path, request.body), response);
    };
    // What comes here has a route: RefuseHead saw to it.
    static constexpr char kAnyPath[] = ".*";
    Get(kAnyPath, handler);
    Put(kAnyPath, handler);
    Post(kAnyPath, handler);
    Delete(kAnyPath, handler);
    // What cpp-httplib refuses by itself has no body yet.
    const Handler error_handler = [](const httplib::Request&, httplib::Response& response) {
      if (response.body.empty()) {
        Write(Refusal(response.status, "bad_request", "this is no HTTP/1.1 request"), response);
        response.set_header("Connection", "close");
      }
    };
    set_error_handler(error_handler);
    set_post_routing_handler([](const httplib::Request&, httplib::Response& response) {
      response.headers.erase("Keep-Alive");  // would tell limits of cpp-httplib's, not ours
    });
  }

  bool ServeRequest(HttpStream& stream, bool last) {
    if (!stream.BeginRequest()) {
      return false;
    }
    bool close = true;  // until the head was read whole and is to our liking
    bool client_closes = false;
    const bool answered =
        process_request(stream, last, client_closes, [&](httplib::Request& request) {
          close = RefuseHead(request).has_value();
          request.ranges.clear();
          request.headers.erase("Range");
          request.headers.erase("Accept-Encoding");
          if (!close) {
            stream.ExpectBody(ContentLength(request).value_or(0));
            if (!request.has_header("Content-Length")) {
              // Without one cpp-httplib would read a PUT's or POST's body to the connection's end.
              request.set_header("Content-Length", "0");
            }
          }
        });
    return answered && !close && !client_closes;
  }
};

HttpEngine::HttpEngine(ControlApi& api) : server_(std::make_unique<Server>(api)) {}
HttpEngine::~HttpEngine() = default;

void HttpEngine::Serve(int fd, const HttpLimits& limits, const std::atomic<bool>& leaving) {
  HttpStream stream(fd, limits, leaving);
  for (uint32_t count = 1; count <= limits.max_requests; ++count) {
    if (!server_->ServeRequest(stream, count == limits.max_requests)) {
      return;
    }
  }
}

}  // namespace pacsvisor
