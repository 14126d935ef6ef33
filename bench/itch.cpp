// The C++ reference of the ITCH benchmark: the frames of stages/domain/codecs/itch_frames and the loops of
// bench/itch_loops, over the books of book.cpp. It knows good frames only; the final bytes tell.
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

static INLINE int64_t apply(Engine* engine, const uint8_t* m, Record* likely) {
  if (is_add(m)) return engine->add(locate(m), reference(m), side_of(m), price(m), shares(m), likely);
  if (*m == 'D') return engine->erase(reference(m), likely);
  if (*m == 'U')
    return engine->replace(reference(m), new_reference(m), big<uint32_t>(m + 31), big<uint32_t>(m + 27), likely);
  if (*m == 'E' || *m == 'C' || *m == 'X') return engine->reduce(reference(m), changed(m), likely);
  return 1;
}
static INLINE Record* look_for(Engine* engine, const uint8_t* m) {
  Record* home = engine->look_for_order(reference(m));
  if (!is_add(m)) return home;
  __builtin_prefetch(&engine->books[locate(m)].sequence, 1);
  return engine->look_for_level(Engine::flipped(price(m), side_of(m)), 2 * locate(m) + side_of(m) + 1);
}
static INLINE Record* look_around(Engine* engine, const uint8_t* m, Record* home) {
  if (is_add(m)) return engine->look_around_level(locate(m), side_of(m), price(m), home);
  Record* order = engine->look_around_order(reference(m), home);
  if (*m == 'U') engine->look_for_successor(order, new_reference(m), big<uint32_t>(m + 31));
  return order;
}

struct Slot { const uint8_t* message; Record* found; };

extern "C" {
int64_t apply_frames(Engine* engine, Framer* framer, Slot* window, const uint8_t* end, int64_t) {
  int64_t refused = 0, framed = 0;
  auto apply_slot = [&](int64_t at) {
    refused += apply(engine, window[at & 15].message, window[at & 15].found) < 0;
  };
  while (const uint8_t* message = framer->next(end)) {
    window[framed & 15] = {message, message + 19 <= end ? look_for(engine, message) : (Record*)engine->orders().lines_at};
    if (framed >= AHEAD_TABLE - AHEAD_LEVEL) {
      Slot& looked = window[(framed - (AHEAD_TABLE - AHEAD_LEVEL)) & 15];
      looked.found = look_around(engine, looked.message, looked.found);
    }
    if (framed >= AHEAD_TABLE) apply_slot(framed - AHEAD_TABLE);
    framed++;
  }
  for (int64_t i = std::max<int64_t>(0, framed - AHEAD_TABLE); i < framed; i++) apply_slot(i);
  return refused;
}
int64_t apply_frames_singly(Engine* engine, Framer* framer, Slot*, const uint8_t* end, int64_t) {
  int64_t refused = 0;
  while (const uint8_t* message = framer->next(end)) refused += apply(engine, message, nullptr) < 0;
  return refused;
}
}
