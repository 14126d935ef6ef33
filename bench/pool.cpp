// The C++ reference of the pool benchmark: the algorithm and the byte picture of shm/pool.py. Words are relaxed
// atomics, as they must be where another process reads them.
#include <atomic>
#include <cstdint>

typedef std::atomic<int64_t> Word;

static inline int64_t get(const Word& word) { return word.load(std::memory_order_relaxed); }
static inline void set(Word& word, int64_t value) { word.store(value, std::memory_order_relaxed); }

static const int64_t GENERATION_MASK = (int64_t(1) << 39) - 1;

struct Pool {
  Word capacity, object_bytes;
  alignas(128) Word free_count;
  Word refused;
  alignas(128) Word generations[];

  Word* stack() { return generations + get(capacity); }

  int64_t acquire() {
    int64_t free = get(free_count);
    if (free == 0) return 0;
    int64_t index = get(stack()[free - 1]);
    int64_t generation = (get(generations[index]) + 1) & GENERATION_MASK;
    set(generations[index], generation);
    set(free_count, free - 1);
    return generation << 24 | index;
  }

  bool release(int64_t handle) {
    int64_t index = handle & 0xffffff, generation = handle >> 24;
    if (index >= get(capacity) || !(generation & 1) || get(generations[index]) != generation) {
      set(refused, get(refused) + 1);
      return false;
    }
    int64_t free = get(free_count);
    set(generations[index], (generation + 1) & GENERATION_MASK);
    set(stack()[free], index);
    set(free_count, free + 1);
    return true;
  }
};

static_assert(sizeof(Pool) == 256, "the byte picture of shm/pool.py");

extern "C" {

// One out, one in: the object that was given back last is taken next.
int64_t take_and_give(Pool* pool, int64_t count) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; i++) {
    int64_t handle = pool->acquire();
    wrong += handle == 0 || !pool->release(handle);
  }
  return wrong;
}

// `held` handles out at any time; which of them comes back next is told by `order`, a permutation of 0 to held - 1.
int64_t take_and_give_shuffled(Pool* pool, int64_t* handles, const int64_t* order, int64_t held, int64_t count) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; i++) {
    int64_t at = order[i & (held - 1)];
    wrong += !pool->release(handles[at]);
    handles[at] = pool->acquire();
    wrong += handles[at] == 0;
  }
  return wrong;
}
}
