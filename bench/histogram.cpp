// The C++ reference of the histogram benchmark: the buckets and the bookkeeping of shm/histogram.py. Fields are relaxed
// atomics, as they must be where another process reads them; kept in registers for a whole loop, nobody would see them.
#include <atomic>
#include <cstdint>

typedef std::atomic<int64_t> Word;

struct Histogram {
  Word total, minimum, maximum, saturated, unused[4];
  Word counts[];
};

static const int64_t HIGHEST = 60000000000;

static inline int64_t get(const Word& word) { return word.load(std::memory_order_relaxed); }
static inline void set(Word& word, int64_t value) { word.store(value, std::memory_order_relaxed); }

static inline void record(Histogram& histogram, int64_t value) {
  if (value < 0) value = 0;
  if (value > HIGHEST) {
    value = HIGHEST;
    set(histogram.saturated, get(histogram.saturated) + 1);
  }
  int64_t total = get(histogram.total);
  if (total == 0 || value < get(histogram.minimum)) set(histogram.minimum, value);
  if (value > get(histogram.maximum)) set(histogram.maximum, value);
  int64_t exponent = 53 - __builtin_clzll(value | 2047);
  Word& counter = histogram.counts[(exponent << 10) + (value >> exponent)];
  set(counter, get(counter) + 1);
  set(histogram.total, total + 1);
}

extern "C" void record_all(Histogram* histogram, const int64_t* values, int64_t mask, int64_t count) {
  for (int64_t i = 0; i < count; i++) record(*histogram, values[i & mask]);
}
