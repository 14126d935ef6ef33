// The naive hand-off that idle strategies are compared with: a slot and a futex word for each hop. Who finds nothing goes
// to sleep in the kernel at once, and every record costs one wake. Records are built and checked word by word, as in
// idle_line.py.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <atomic>
#include <cstdint>
#include <ctime>
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

struct Record {
  uint64_t word[8];
};

struct Slot {
  alignas(128) std::atomic<uint32_t> sent;
  alignas(128) Record record;
};

static_assert(sizeof(Slot) == 256, "SLOT_BYTES of idle_line.py");

static const int64_t LATE = -1;

static inline void fill(Record& record, uint64_t number, uint64_t hop) {
  for (uint64_t w = 0; w < 8; w++) record.word[w] = number * 64 + hop * 8 + w;
}

static inline bool holds(const Record& record, uint64_t number, uint64_t hop) {
  uint64_t differs = 0;
  for (uint64_t w = 0; w < 8; w++) differs |= record.word[w] ^ (number * 64 + hop * 8 + w);
  return differs == 0;
}

static int64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void hand_over(Slot* slot, const Record& record, uint32_t number) {
  slot->record = record;
  slot->sent.store(number + 1, std::memory_order_release);
  syscall(SYS_futex, &slot->sent, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

// False when it is past end_ns. A wait is bounded, so that this is noticed.
static bool await(Slot* slot, Record& record, uint32_t number, int64_t end_ns) {
  while (slot->sent.load(std::memory_order_acquire) != number + 1) {
    timespec bound{0, 100000000};
    syscall(SYS_futex, &slot->sent, FUTEX_WAIT, number, &bound, nullptr, 0);
    if (slot->sent.load(std::memory_order_acquire) != number + 1 && now_ns() > end_ns) return false;
  }
  record = slot->record;
  return true;
}

// Each returns how many records were wrong, or LATE. `lead` fills samples[i] with the cycles of round i.
extern "C" {

int64_t lead(Slot* in, Slot* out, int64_t last, int64_t start, int64_t count, int64_t* samples, int64_t end_ns) {
  int64_t wrong = 0;
  Record record;
  for (int64_t number = start; number < start + count; number++) {
    uint64_t begun = cycles();
    fill(record, number, 0);
    hand_over(out, record, number);
    if (!await(in, record, number, end_ns)) return LATE;
    samples[number - start] = cycles() - begun;
    wrong += !holds(record, number, last);
  }
  return wrong;
}

int64_t follow(Slot* in, Slot* out, int64_t hop, int64_t start, int64_t count, int64_t end_ns) {
  int64_t wrong = 0;
  Record record;
  for (int64_t number = start; number < start + count; number++) {
    if (!await(in, record, number, end_ns)) return LATE;
    wrong += !holds(record, number, hop - 1);
    fill(record, number, hop);
    hand_over(out, record, number);
  }
  return wrong;
}
}
