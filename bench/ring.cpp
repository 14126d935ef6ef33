// The C++ reference of the ring benchmark: the algorithm of shm/ring.py as a C++ programmer writes it, record type and
// size known to the compiler, and the same four loops around it. Every record is built, and checked word by word.
// Cursors are monotonic, each side keeps a copy of the other's, lines of different writers stand 128 bytes apart.
#include <atomic>
#include <cstdint>
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

struct Ring {
  uint64_t capacity, record_bytes;
  alignas(128) std::atomic<uint64_t> tail;
  uint64_t cached_head;
  alignas(128) std::atomic<uint64_t> head;
  uint64_t cached_tail;
  alignas(128) Record records[];

  bool try_push(const Record& record) { return push_batch(&record, 1) == 1; }
  bool try_pop(Record& record) { return pop_batch(&record, 1) == 1; }

  Record* claim() {
    uint64_t at = tail.load(std::memory_order_relaxed);
    if (at - cached_head >= capacity) {
      cached_head = head.load(std::memory_order_acquire);
      if (at - cached_head >= capacity) return nullptr;
    }
    return &records[at & (capacity - 1)];
  }
  void commit() { tail.store(tail.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

  const Record* peek() {
    uint64_t at = head.load(std::memory_order_relaxed);
    if (cached_tail <= at) {
      cached_tail = tail.load(std::memory_order_acquire);
      if (cached_tail <= at) return nullptr;
    }
    return &records[at & (capacity - 1)];
  }
  void advance() { head.store(head.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

  uint64_t push_batch(const Record* from, uint64_t count) {
    uint64_t at = tail.load(std::memory_order_relaxed);
    uint64_t free = capacity - (at - cached_head);
    if (free < count) {
      cached_head = head.load(std::memory_order_acquire);
      free = capacity - (at - cached_head);
      if (free < count) count = free;
    }
    for (uint64_t i = 0; i < count; i++) records[(at + i) & (capacity - 1)] = from[i];
    if (count) tail.store(at + count, std::memory_order_release);
    return count;
  }

  uint64_t pop_batch(Record* to, uint64_t count) {
    uint64_t at = head.load(std::memory_order_relaxed);
    uint64_t unread = cached_tail - at;
    if (unread < count) {
      cached_tail = tail.load(std::memory_order_acquire);
      unread = cached_tail - at;
      if (unread < count) count = unread;
    }
    for (uint64_t i = 0; i < count; i++) to[i] = records[(at + i) & (capacity - 1)];
    if (count) head.store(at + count, std::memory_order_release);
    return count;
  }
};

static_assert(sizeof(Ring) == 384, "the byte picture of shm/ring.py");

static inline void fill(Record& record, uint64_t number) {
  for (uint64_t w = 0; w < 8; w++) record.word[w] = number * 8 + w;
}

static inline bool holds(const Record& record, uint64_t number) {
  uint64_t differs = 0;
  for (uint64_t w = 0; w < 8; w++) differs |= record.word[w] ^ (number * 8 + w);
  return differs == 0;
}

// Without it g++ builds the record in the ring and copies nothing, which is what `in_place` measures.
static inline void stands_in_memory(Record& record) { asm volatile("" : : "r"(&record) : "memory"); }

static const uint64_t BATCH = 64;

// Each returns how many records came back or arrived wrong; `ping` fills samples[i] with the cycles of round i,
// `produce*` *elapsed with the cycles from the reader's word that it is there to its word that it has all.
extern "C" {

int64_t ping(Ring* there, Ring* back, int64_t count, int64_t* samples) {
  int64_t wrong = 0;
  Record record;
  for (int64_t number = 0; number < count; number++) {
    fill(record, number);
    uint64_t start = cycles();
    while (!there->try_push(record)) {}
    while (!back->try_pop(record)) {}
    samples[number] = cycles() - start;
    wrong += !holds(record, number + 1);
  }
  return wrong;
}

int64_t pong(Ring* there, Ring* back, int64_t count) {
  int64_t wrong = 0;
  Record record;
  for (int64_t number = 0; number < count; number++) {
    while (!there->try_pop(record)) {}
    wrong += !holds(record, number);
    fill(record, number + 1);
    while (!back->try_push(record)) {}
  }
  return wrong;
}

void produce(Ring* there, Ring* back, int64_t count, int64_t* elapsed) {
  Record record;
  while (!back->try_pop(record)) {}
  uint64_t start = cycles();
  for (int64_t number = 0; number < count; number++) {
    fill(record, number);
    stands_in_memory(record);
    while (!there->try_push(record)) {}
  }
  while (!back->try_pop(record)) {}
  *elapsed = cycles() - start;
}

int64_t consume(Ring* there, Ring* back, int64_t count) {
  int64_t wrong = 0;
  Record record{};
  while (!back->try_push(record)) {}
  for (int64_t number = 0; number < count; number++) {
    while (!there->try_pop(record)) {}
    wrong += !holds(record, number);
  }
  while (!back->try_push(record)) {}
  return wrong;
}

void produce_in_place(Ring* there, Ring* back, int64_t count, int64_t* elapsed) {
  Record record;
  while (!back->try_pop(record)) {}
  uint64_t start = cycles();
  for (int64_t number = 0; number < count; number++) {
    Record* slot;
    while (!(slot = there->claim())) {}
    fill(*slot, number);
    there->commit();
  }
  while (!back->try_pop(record)) {}
  *elapsed = cycles() - start;
}

int64_t consume_in_place(Ring* there, Ring* back, int64_t count) {
  int64_t wrong = 0;
  Record record{};
  while (!back->try_push(record)) {}
  for (int64_t number = 0; number < count; number++) {
    const Record* slot;
    while (!(slot = there->peek())) {}
    wrong += !holds(*slot, number);
    there->advance();
  }
  while (!back->try_push(record)) {}
  return wrong;
}

void produce_batched(Ring* there, Ring* back, int64_t count, int64_t* elapsed) {
  Record record, batch[BATCH];
  while (!back->try_pop(record)) {}
  uint64_t start = cycles();
  for (int64_t number = 0; number < count; number += BATCH) {
    for (uint64_t i = 0; i < BATCH; i++) fill(batch[i], number + i);
    for (uint64_t sent = 0; sent < BATCH;) sent += there->push_batch(batch + sent, BATCH - sent);
  }
  while (!back->try_pop(record)) {}
  *elapsed = cycles() - start;
}

int64_t consume_batched(Ring* there, Ring* back, int64_t count) {
  int64_t wrong = 0;
  Record record{}, batch[BATCH];
  while (!back->try_push(record)) {}
  for (int64_t number = 0; number < count;) {
    uint64_t got = there->pop_batch(batch, BATCH);
    for (uint64_t i = 0; i < got; i++) wrong += !holds(batch[i], number + i);
    number += got;
  }
  while (!back->try_push(record)) {}
  return wrong;
}
}
