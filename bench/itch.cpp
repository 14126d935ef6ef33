// The C++ reference of the ITCH benchmark: the frames of stages/domain/codecs/itch_frames and the loop of
// stages/domain/orderbook/itch, over the books of book.cpp. It knows good frames only; the final bytes tell.
#include <cstring>

#include "book.cpp"

struct Framer {
  const uint8_t* position;
  int64_t origin, is_lost, garbage_bytes, end_marks, problems[4][4], length[256], count[256];

  INLINE const uint8_t* next(const uint8_t* end) {
    const uint8_t* message = position + 2;
    if (message >= end) return nullptr;
    int64_t size = position[0] << 8 | position[1];
    if (size != length[*message] || size == 0 || message + size > end) return nullptr;
    count[*message]++;
    position = message + size;
    return message;
  }
};

template <class Word> static INLINE Word big(const uint8_t* at) {
  Word value;
  memcpy(&value, at, sizeof value);
  if constexpr (sizeof value == 2) return __builtin_bswap16(value);
  else if constexpr (sizeof value == 4) return __builtin_bswap32(value);
  else return __builtin_bswap64(value);
}

static INLINE bool is_add(const uint8_t* m) { return (*m == 'A') | (*m == 'F'); }
static INLINE int64_t locate(const uint8_t* m) { return big<uint16_t>(m + 1); }
static INLINE int64_t reference(const uint8_t* m) { return big<uint64_t>(m + 11); }
static INLINE int64_t side_of(const uint8_t* m) { return m[19] != 'B'; }
static INLINE int64_t shares(const uint8_t* m) { return big<uint32_t>(m + 20); }
static INLINE int64_t price(const uint8_t* m) { return big<uint32_t>(m + 32); }
static INLINE int64_t changed(const uint8_t* m) { return big<uint32_t>(m + 19); }
static INLINE int64_t new_reference(const uint8_t* m) { return big<uint64_t>(m + 19); }

static INLINE int64_t apply(Engine* engine, const uint8_t* m) {
  if (is_add(m)) return engine->add(locate(m), reference(m), side_of(m), price(m), shares(m));
  if (*m == 'D') return engine->erase(reference(m));
  if (*m == 'U') return engine->replace(reference(m), new_reference(m), big<uint32_t>(m + 31), big<uint32_t>(m + 27));
  if (*m == 'E' || *m == 'C' || *m == 'X') return engine->reduce(reference(m), changed(m));
  return 1;
}
static INLINE void look_for(Engine* engine, const uint8_t* m) {
  __builtin_prefetch(engine->orders().home(engine->order_hash(reference(m))), 1);
  if (is_add(m)) {
    int64_t key = Engine::flipped(price(m), side_of(m));
    uint32_t owner = 2 * locate(m) + side_of(m) + 1;
    __builtin_prefetch(engine->levels().home(engine->level_hash(key, owner)), 1);
    __builtin_prefetch(&engine->books[locate(m)].sequence, 1);
  } else if (*m == 'U') {
    __builtin_prefetch(engine->orders().home(engine->order_hash(new_reference(m))), 1);
  }
}
static INLINE void look_around(Engine* engine, const uint8_t* m) {
  Message message{};
  message.kind = is_add(m) ? ADD : DELETE;
  message.id = reference(m);
  if (is_add(m)) message.symbol = locate(m), message.side = side_of(m), message.price = price(m);
  engine->look_around(message);
}

extern "C" {
int64_t apply_frames(Engine* engine, Framer* framer, const uint8_t** window, const uint8_t* end, int64_t) {
  int64_t refused = 0, framed = 0;
  while (const uint8_t* message = framer->next(end)) {
    if (message + 19 <= end) look_for(engine, message);
    window[framed & 15] = message;
    if (framed >= AHEAD_TABLE - AHEAD_LEVEL) look_around(engine, window[(framed - (AHEAD_TABLE - AHEAD_LEVEL)) & 15]);
    if (framed >= AHEAD_TABLE) refused += apply(engine, window[(framed - AHEAD_TABLE) & 15]) < 0;
    framed++;
  }
  for (int64_t i = std::max<int64_t>(0, framed - AHEAD_TABLE); i < framed; i++) refused += apply(engine, window[i & 15]) < 0;
  return refused;
}
int64_t apply_frames_singly(Engine* engine, Framer* framer, const uint8_t**, const uint8_t* end, int64_t) {
  int64_t refused = 0;
  while (const uint8_t* message = framer->next(end)) refused += apply(engine, message) < 0;
  return refused;
}
}
