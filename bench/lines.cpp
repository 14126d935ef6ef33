// The C++ reference of the benchmark of lines: datagrams from one or two sockets, one recv each or a recvmmsg for up to
// BATCH, arbitrated by their MoldUDP64 sequence numbers as stages/domain/codecs/arbitration.py does, each message looked
// at once, in order.
#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <memory>
#if defined(__x86_64__)
#include <x86intrin.h>
static inline uint64_t cycles() { return __rdtsc(); }
#else
static inline uint64_t cycles() {
  uint64_t value;
  asm volatile("mrs %0, cntvct_el0" : "=r"(value));
  return value;
}
#endif

namespace {

constexpr int BATCH = 32, BUFFER_BYTES = 2048, HEADER_BYTES = 20, REFERENCE_AT = 11;
constexpr uint16_t END_OF_SESSION = 0xFFFF;

uint16_t big16(const uint8_t* at) {
  uint16_t value;
  memcpy(&value, at, 2);
  return __builtin_bswap16(value);
}
uint64_t big64(const uint8_t* at) {
  uint64_t value;
  memcpy(&value, at, 8);
  return __builtin_bswap64(value);
}

struct Tally {
  int64_t expected, messages, wrong;
  void look(const uint8_t* block) {
    messages++;
    if (int64_t(big64(block + 2 + REFERENCE_AT)) != expected) wrong++;
    expected++;
  }
};

struct Slot {
  uint64_t tag;
  uint8_t block[120];
};

struct Receiver {
  uint64_t slots, expected = 1, known_end = 1, duplicates = 0, malformed = 0, read_at = 0;
  bool has_session = false;
  uint8_t session[10];
  std::unique_ptr<Slot[]> window;
  mmsghdr headers[BATCH] = {};
  iovec vectors[BATCH];
  uint8_t buffers[BATCH][BUFFER_BYTES];

  explicit Receiver(uint64_t count) : slots(count), window(new Slot[count]()) {
    for (int i = 0; i < BATCH; i++) {
      vectors[i] = {buffers[i], BUFFER_BYTES};
      headers[i].msg_hdr.msg_iov = &vectors[i];
      headers[i].msg_hdr.msg_iovlen = 1;
    }
  }

  void take_kept(Tally& tally) {
    for (Slot* slot = &window[expected & (slots - 1)]; slot->tag == expected + 1;
         slot = &window[expected & (slots - 1)]) {
      expected++;
      tally.look(slot->block);
    }
  }

  void take(const uint8_t* packet, size_t size, Tally& tally) {
    if (size < HEADER_BYTES) {
      malformed++;
      return;
    }
    if (!has_session) {
      memcpy(session, packet, sizeof session);
      has_session = true;
    } else if (memcmp(session, packet, sizeof session) != 0) {
      return;
    }
    uint64_t sequence = big64(packet + 10);
    uint16_t count = big16(packet + 18);
    if (count == END_OF_SESSION) count = 0;
    if (sequence + count > known_end) known_end = sequence + count;
    const uint8_t *block = packet + HEADER_BYTES, *end = packet + size;
    for (; count > 0; count--, sequence++) {
      if (end - block < 2 || block + 2 + big16(block) > end) {
        malformed++;
        return;
      }
      size_t length = 2 + big16(block);
      if (sequence == expected) {
        expected++;
        tally.look(block);
        take_kept(tally);
      } else if (sequence < expected || window[sequence & (slots - 1)].tag == sequence + 1) {
        duplicates++;
      } else if (sequence - expected < slots && length <= sizeof(Slot::block)) {
        Slot& slot = window[sequence & (slots - 1)];
        slot.tag = sequence + 1;
        memcpy(slot.block, block, length);
      }
      block += length;
    }
  }
};

}  // namespace

extern "C" {

void* new_receiver(int64_t slots) { return new Receiver(uint64_t(slots)); }
void delete_receiver(void* receiver) { delete static_cast<Receiver*>(receiver); }

// All that is in the sockets, one datagram of each in turn.
void take_messages(void* receiver, const int64_t* descriptors, int64_t lines, void* tally) {
  auto& self = *static_cast<Receiver*>(receiver);
  for (int64_t turn = 0, empty = 0; empty < lines; turn = turn + 1 < lines ? turn + 1 : 0) {
    ssize_t size = recv(int(descriptors[turn]), self.buffers[0], BUFFER_BYTES, MSG_DONTWAIT);
    if (size < 0) {
      empty++;
      continue;
    }
    empty = 0;
    self.read_at = cycles();
    self.take(self.buffers[0], size_t(size), *static_cast<Tally*>(tally));
  }
}

void take_messages_batched(void* receiver, const int64_t* descriptors, int64_t lines, void* tally) {
  auto& self = *static_cast<Receiver*>(receiver);
  for (int64_t turn = 0, empty = 0; empty < lines; turn = turn + 1 < lines ? turn + 1 : 0) {
    int count = recvmmsg(int(descriptors[turn]), self.headers, BATCH, MSG_DONTWAIT, nullptr);
    if (count <= 0) {
      empty++;
      continue;
    }
    empty = 0;
    self.read_at = cycles();
    for (int i = 0; i < count; i++) self.take(self.buffers[i], self.headers[i].msg_len, *static_cast<Tally*>(tally));
  }
}
}
