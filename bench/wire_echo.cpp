// The floor under any wire-to-wire figure: reads market data frames on one socket and answers each on another, as the
// pipeline does, but looks at nothing. Arguments: host, port, bytes per request, bytes per answer.
// Both connections go to the same port; the first byte sent on each says which it is ('m' market, 'o' orders).
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

static int connect_to(const char* host, int port, char role) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, host, &address.sin_addr);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) exit(1);
  int on = 1, bytes = 4 << 20;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  if (send(fd, &role, 1, 0) != 1) exit(1);
  return fd;
}

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  int market = connect_to(argv[1], atoi(argv[2]), 'm');
  int orders = connect_to(argv[1], atoi(argv[2]), 'o');
  size_t request = strtoul(argv[3], nullptr, 10), answer_bytes = strtoul(argv[4], nullptr, 10);
  std::vector<char> buffer(1 << 20), answer(answer_bytes, 'x');
  size_t have = 0;
  for (;;) {
    ssize_t got = recv(market, buffer.data() + have, request - have, MSG_DONTWAIT);
    if (got == 0) return 0;
    if (got < 0) {
      if (errno != EAGAIN && errno != EINTR) return 1;
      continue;
    }
    have += got;
    if (have < request) continue;
    have = 0;
    size_t sent = 0;
    while (sent < answer_bytes) {
      ssize_t put = send(orders, answer.data() + sent, answer_bytes - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (put > 0) sent += put;
      else if (errno != EAGAIN) return 1;
    }
  }
}
