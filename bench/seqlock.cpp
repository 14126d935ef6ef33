// The C++ reference of the seqlock benchmark: the algorithm and the byte picture of shm/seqlock.py.
#include <atomic>
#include <cstdint>

typedef std::atomic<int64_t> Word;

static inline int64_t get(const Word& word) { return word.load(std::memory_order_relaxed); }
static inline void set(Word& word, int64_t value) { word.store(value, std::memory_order_relaxed); }

struct Row {
  Word version;
  Word unused[7];
  Word cells[];

  Word* cell(int64_t number, int64_t payload_bytes) {
    return cells + (number & 1) * ((8 + payload_bytes + 63) / 64 * 8);
  }

  void write(const int64_t* source, int64_t payload_bytes) {
    int64_t number = get(version) + 1;
    Word* at = cell(number, payload_bytes);
    set(at[0], 2 * number + 1);
    std::atomic_thread_fence(std::memory_order_release);
    for (int64_t word = 0; word < payload_bytes / 8; word++) set(at[1 + word], source[word]);
    at[0].store(2 * number, std::memory_order_release);
    version.store(number, std::memory_order_release);
  }

  int64_t try_read(int64_t* target, int64_t payload_bytes) {
    int64_t number = version.load(std::memory_order_acquire);
    if (number == 0) return 0;
    Word* at = cell(number, payload_bytes);
    if (at[0].load(std::memory_order_acquire) != 2 * number) return -1;
    for (int64_t word = 0; word < payload_bytes / 8; word++) target[word] = get(at[1 + word]);
    std::atomic_thread_fence(std::memory_order_acquire);
    return get(at[0]) == 2 * number ? number : -1;
  }
};

// Payload word w of a value is 1000 * number + w. Each returns how many values were wrong.
extern "C" {

int64_t read_all(Row* row, int64_t* scratch, int64_t payload_bytes, int64_t count) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; i++) {
    int64_t number = row->try_read(scratch, payload_bytes), differs = number < 1;
    for (int64_t word = 0; word < payload_bytes / 8; word++) differs |= scratch[word] ^ (1000 * number + word);
    wrong += differs != 0;
  }
  return wrong;
}

int64_t write_all(Row* row, int64_t* scratch, int64_t payload_bytes, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    int64_t number = get(row->version) + 1;
    for (int64_t word = 0; word < payload_bytes / 8; word++) scratch[word] = 1000 * number + word;
    row->write(scratch, payload_bytes);
  }
  return 0;
}
}
