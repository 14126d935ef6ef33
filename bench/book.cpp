// The C++ reference of the book benchmark: the algorithms and the byte pictures of stages/domain/orderbook (top, engine,
// table, tree, l3, batch, l2), over memory that the Python side has formatted. The final bytes must be the same.
#include <algorithm>
#include <atomic>
#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
static inline int64_t cycles() { return __rdtsc(); }
#else
static inline int64_t cycles() {
  int64_t value;
  asm volatile("mrs %0, cntvct_el0" : "=r"(value));
  return value;
}
#endif

enum { UNKNOWN = -1, DUPLICATE = -2, BAD_QUANTITY = -3, BAD_PRICE = -4, BAD_SYMBOL = -5, TOO_MUCH = -6 };
enum { FULL_ORDERS = -7, FULL_SYMBOL = -8, FULL_LEVELS = -9, FULL_TABLE = -10, FULL_QUANTITY = -11, BAD_KIND = -12 };
enum { OK = 0, CROSSED = -13, STALE = 3 };
enum { ADD = 1, EXECUTE = 2, CANCEL = 3, DELETE = 4, REPLACE = 5, MODIFY = 6 };
static const int64_t NO_KEY = 1ll << 62, LOWEST = -(1ll << 62), QUANTITY_MAX = (1ll << 62) - 1, LINES_BEYOND = 256;
static const uint32_t OWNER_MASK = (1u << 20) - 1, PASSED = 1u << 20, PASSED_MAX = 4000;
static const int64_t AHEAD_TABLE = 12, AHEAD_LEVEL = 5;
static const uint32_t NODE_KEYS = 20, HALF = 10, LIVE_MIN = 9, JOINED_MAX = 18, HEIGHT_MAX = 11;

struct Record { int64_t key, quantity; uint32_t in_use, previous, next, owner; };
// in_use: an order's level, or how many orders a level has; a level stands in the ring of its orders
struct Node { uint32_t count, unused, worse, better; int64_t keys[NODE_KEYS]; uint32_t refs[NODE_KEYS]; };
struct Side { uint32_t root, height, levels, best; };
struct Best { int64_t price, quantity; };
struct alignas(128) Book {
  Best best[2];
  int64_t mid_doubled, spread, state, unused, sequence, kind;
  Side sides[2];
  int64_t orders;

  void begin() {
    __atomic_store_n(&sequence, sequence | 1, __ATOMIC_RELAXED);
    std::atomic_thread_fence(std::memory_order_release);
  }
  void end() { __atomic_store_n(&sequence, (sequence | 1) + 1, __ATOMIC_RELEASE); }
};
static_assert(sizeof(Record) == 32 && sizeof(Node) == 256 && sizeof(Book) == 128, "layout");
struct Message { uint8_t kind, side; uint16_t unused; uint32_t symbol; int64_t id, new_id, price, quantity, code, time, pad; };

static inline int64_t hash_of(int64_t key, int64_t salt) {
  uint64_t middle = (uint64_t)(((unsigned __int128)(uint64_t)(key ^ salt) * 0x60A7A510F0369C77ull) >> 32);
  return (middle ^ middle >> 32) & 0xFFFFFFFF;
}
#define INLINE_LAMBDA __attribute__((always_inline))
#define INLINE inline __attribute__((always_inline))  // g++ takes a function that only prefetches for one without effect

struct Table {
  char* lines_at;
  int64_t lines;

  Record* home(int64_t hash) const { return (Record*)(lines_at + 64 * ((uint64_t)(hash * lines) >> 32)); }
  static bool is(const Record& record, int64_t key, uint32_t owner, uint32_t mask) {
    return (record.key == key) & (record.in_use != 0) & (((record.owner ^ owner) & mask) == 0);
  }
  static INLINE void ask_for(Record* home) { __builtin_prefetch(home, 1), __builtin_prefetch(home + 2, 1); }
  Record* find(int64_t hash, int64_t key, uint32_t owner, uint32_t mask) const {
    return find_from(home(hash), key, owner, mask);
  }
  static Record* find_from(Record* at, int64_t key, uint32_t owner, uint32_t mask) {
    bool first = is(at[0], key, owner, mask), second = is(at[1], key, owner, mask);
    while (!(first | second) && at->owner >= PASSED) {
      at += 2;
      first = is(at[0], key, owner, mask), second = is(at[1], key, owner, mask);
    }
    return first | second ? at + second : nullptr;
  }
  Record* room(int64_t hash) const {
    Record *at = home(hash), *last = at + 2 * (LINES_BEYOND - 1);
    for (; (at[0].in_use != 0) & (at[1].in_use != 0); at += 2)
      if (at == last || at->owner >= PASSED * PASSED_MAX) return nullptr;
    return at + (at->in_use != 0);
  }
  void pass(int64_t hash, Record* record, uint32_t change) const {
    for (Record* at = home(hash); at < record - 1; at += 2) at->owner += change;
  }
  void claim(int64_t hash, Record* record, uint32_t owner) const {
    pass(hash, record, PASSED);
    record->owner = (record->owner & ~OWNER_MASK) | owner;
  }
  void release(int64_t hash, Record* record) const {
    pass(hash, record, -PASSED);
    record->in_use = 0;
  }
};

struct Step { int64_t node, place; };

struct Engine {
  int64_t symbols, order_lines, level_lines, order_table_at, level_table_at, nodes_at, salt, symbol_orders_max;
  int64_t live_orders, live_levels, free_node, free_nodes, orders_max, levels_max, nodes_max, unused;
  int64_t counters[16];
  Step path[16];
  Book books[];

  char* at(int64_t offset) { return (char*)this + offset; }
  Table orders() { return {at(order_table_at), order_lines}; }
  Table levels() { return {at(level_table_at), level_lines}; }
  Record& record(uint32_t number) { return ((Record*)this)[number]; }
  uint32_t number_of(Record* of) { return of - (Record*)this; }
  Node& node(uint32_t number) { return ((Node*)at(nodes_at))[number]; }
  int64_t count(int64_t code) { counters[-code]++; return code; }
  int64_t order_hash(int64_t id) { return hash_of(id, salt); }
  int64_t level_hash(int64_t key, uint32_t owner) { return hash_of(key, salt ^ (int64_t)owner << 40); }
  Record* find(int64_t hash, int64_t id) { return orders().find(hash, id, 0, 0); }
  Record* find_level(int64_t hash, int64_t key, uint32_t owner) { return levels().find(hash, key, owner, OWNER_MASK); }
  Record* order_at(Record* likely, int64_t id) {
    return likely != nullptr && Table::is(*likely, id, 0, 0) ? likely : find(order_hash(id), id);
  }
  Book& book_of(uint32_t owner) { return books[(owner - 1) >> 1]; }
  static int64_t flipped(int64_t price, int64_t side) { return (price ^ -side) + side; }

  uint32_t take_node() {
    uint32_t number = free_node;
    Node& taken = node(number);
    free_node = taken.worse;
    free_nodes--;
    taken.count = taken.unused = taken.worse = taken.better = 0;
    std::fill(taken.keys, taken.keys + NODE_KEYS, NO_KEY);
    return number;
  }
  void give_node(uint32_t number) {
    node(number).worse = free_node;
    free_node = number;
    free_nodes++;
  }

  // --- tree ---
  static uint32_t below(const Node& node, int64_t key) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < NODE_KEYS; i++) count += node.keys[i] < key;
    return count;
  }
  uint32_t descend(Side& side, int64_t key) {
    uint32_t number = side.root;
    for (uint32_t height = side.height; height > 0; height--) {
      uint32_t place = std::max<int64_t>(0, (int64_t)below(node(number), key + 1) - 1);
      path[height] = {number, place};
      number = node(number).refs[place];
    }
    return number;
  }
  uint32_t best(Side& side) {
    uint32_t number = side.root;
    for (uint32_t i = 0; i <= side.height; i++) {
      Node& at = node(number);
      number = at.count > 0 ? at.refs[at.count - 1] : 0;
    }
    return number;
  }
  void link(uint32_t worse, uint32_t better) {
    if (worse != 0) node(worse).better = better;
    if (better != 0) node(better).worse = worse;
  }
  void put(Node& at, int64_t key, uint32_t ref) {
    uint32_t place = below(at, key);
    for (uint32_t to = at.count; to > place; to--) at.keys[to] = at.keys[to - 1], at.refs[to] = at.refs[to - 1];
    at.keys[place] = key;
    at.refs[place] = ref;
    at.count++;
  }
  void cut(Node& at, uint32_t place) {
    uint32_t last = at.count - 1;
    for (uint32_t to = place; to < last; to++) at.keys[to] = at.keys[to + 1], at.refs[to] = at.refs[to + 1];
    at.keys[last] = NO_KEY;
    at.count = last;
  }
  uint32_t split(uint32_t lower) {
    uint32_t upper = take_node();
    Node &source = node(lower), &target = node(upper);
    for (uint32_t i = 0; i < NODE_KEYS - HALF; i++) {
      target.keys[i] = source.keys[HALF + i];
      target.refs[i] = source.refs[HALF + i];
      source.keys[HALF + i] = NO_KEY;
    }
    target.count = NODE_KEYS - HALF;
    source.count = HALF;
    uint32_t better = source.better;
    link(lower, upper);
    link(upper, better);
    return upper;
  }
  void insert(Side& side, int64_t key, uint32_t ref) {
    uint32_t at = descend(side, key), height = 0;
    while (node(at).count == NODE_KEYS) {
      uint32_t upper = split(at);
      int64_t separator = node(upper).keys[0];
      put(node(key >= separator ? upper : at), key, ref);
      key = separator;
      ref = upper;
      if (++height > side.height) {
        uint32_t root = take_node();
        Node& top = node(root);
        top.keys[0] = LOWEST, top.refs[0] = side.root, top.keys[1] = key, top.refs[1] = ref, top.count = 2;
        side.root = root;
        side.height++;
        return;
      }
      at = path[height].node;
    }
    put(node(at), key, ref);
  }
  void drop(Node& parent, uint32_t place) {
    uint32_t number = parent.refs[place];
    link(node(number).worse, node(number).better);
    int64_t key = parent.keys[0];
    cut(parent, place);
    if (place == 0 && parent.count > 0) parent.keys[0] = key;
    give_node(number);
  }
  void join(Node& parent, uint32_t place, uint32_t above) {
    Node &lower = node(parent.refs[place]), &upper = node(parent.refs[place + 1]);
    uint32_t used = lower.count, more = upper.count;
    for (uint32_t i = 0; i < more; i++) lower.keys[used + i] = upper.keys[i], lower.refs[used + i] = upper.refs[i];
    if (above > 1) lower.keys[used] = parent.keys[place + 1];
    lower.count = used + more;
    drop(parent, place + 1);
  }
  bool shrink(uint32_t above) {
    Node& parent = node(path[above].node);
    uint32_t place = path[above].place, count = node(parent.refs[place]).count;
    if (count == 0)
      drop(parent, place);
    else if (place + 1 < parent.count && count + node(parent.refs[place + 1]).count <= JOINED_MAX)
      join(parent, place, above);
    else if (place > 0 && count + node(parent.refs[place - 1]).count <= JOINED_MAX)
      join(parent, place - 1, above);
    else
      return false;
    return true;
  }
  void remove(Side& side, int64_t key) {
    uint32_t at = descend(side, key);
    cut(node(at), below(node(at), key));
    uint32_t height = side.height;
    for (uint32_t above = 1; above <= height; above++) {
      if (node(at).count >= LIVE_MIN || !shrink(above)) break;
      at = path[above].node;
    }
    while (height > 0 && node(side.root).count == 1) {
      uint32_t root = side.root;
      side.root = node(root).refs[0];
      side.height = --height;
      give_node(root);
    }
  }

  // --- orders ---
  void show_best(Book& book, uint32_t side) {
    uint32_t number = book.sides[side].best;
    int64_t price = 0, quantity = 0;
    if (number != 0) price = flipped(record(number).key, side), quantity = record(number).quantity;
    Best& best = book.best[side];
    bool is_same = (best.price == price) & (best.quantity != 0) & (quantity != 0);
    best = {price, quantity};
    if (is_same) return;
    bool has_both = (book.best[0].quantity != 0) & (book.best[1].quantity != 0);
    book.mid_doubled = has_both ? book.best[0].price + book.best[1].price : 0;
    book.spread = has_both ? book.best[1].price - book.best[0].price : 0;
    if (has_both & (book.best[0].price >= book.best[1].price)) count(CROSSED);
  }
  void create_level(Side& side, Record* level, int64_t hash, int64_t key, uint32_t owner) {
    uint32_t number = number_of(level);
    level->key = key, level->quantity = 0, level->previous = level->next = number;
    levels().claim(hash, level, owner);
    live_levels++;
    insert(side, key, number);
    side.levels++;
    if (side.best == 0 || record(side.best).key < key) side.best = number;
  }
  void remove_level(Side& side, Record* level, uint32_t owner) {
    int64_t key = level->key;
    levels().release(level_hash(key, owner), level);
    live_levels--;
    remove(side, key);
    side.levels--;
    if (side.best == number_of(level)) side.best = best(side);
  }
  int64_t put_in(Book& book, uint32_t owner, int64_t id, int64_t hash, int64_t key, int64_t quantity, Record* likely) {
    uint32_t side = (owner - 1) & 1;
    Side& of = book.sides[side];
    int64_t code = OK;
    Record* order = nullptr;
    if (live_orders >= orders_max) code = FULL_ORDERS;
    else if (book.orders >= symbol_orders_max) code = FULL_SYMBOL;
    else if ((order = orders().room(hash)) == nullptr) code = FULL_TABLE;
    int64_t hash_of_level = 0;
    Record* level = likely;
    if (likely == nullptr || !Table::is(*likely, key, owner, OWNER_MASK)) {
      hash_of_level = level_hash(key, owner);
      level = find_level(hash_of_level, key, owner);
    }
    bool is_new = level == nullptr;
    if (code == OK && is_new) {
      if (live_levels >= levels_max || !((free_nodes > of.height + 1) & (of.height < HEIGHT_MAX))) code = FULL_LEVELS;
      else if ((level = levels().room(hash_of_level)) == nullptr) code = FULL_TABLE;
    } else if (code == OK && level->quantity > QUANTITY_MAX - quantity) {
      code = FULL_QUANTITY;
    }
    if (code != OK) {
      book.state = STALE;
      return code;
    }
    if (is_new) create_level(of, level, hash_of_level, key, owner);
    orders().claim(hash, order, owner);
    live_orders++;
    book.orders++;
    uint32_t made = number_of(order), number = number_of(level), last = level->previous;
    order->key = id, order->quantity = quantity, order->in_use = number, order->previous = last, order->next = number;
    record(last).next = made;
    level->previous = made;
    level->quantity += quantity;
    level->in_use++;
    if (of.best == number) show_best(book, side);
    return OK;
  }
  void take_out(Book& book, Record* order) {
    int64_t hash = order_hash(order->key);
    uint32_t owner = order->owner & OWNER_MASK, side = (owner - 1) & 1, number = order->in_use;
    Record* level = &record(number);
    record(order->previous).next = order->next;
    record(order->next).previous = order->previous;
    uint32_t left = --level->in_use;
    level->quantity -= order->quantity;
    orders().release(hash, order);
    live_orders--;
    book.orders--;
    bool was_best = book.sides[side].best == number;
    if (left == 0) remove_level(book.sides[side], level, owner);
    if (was_best) show_best(book, side);
  }
  int64_t add(int64_t symbol, int64_t id, int64_t side, int64_t price, int64_t quantity, Record* likely) {
    if (!(0 <= symbol && symbol < symbols && 0 <= side && side <= 1)) return count(BAD_SYMBOL);
    if (!(-NO_KEY < price && price < NO_KEY)) return count(BAD_PRICE);
    if (!(0 < quantity && quantity <= QUANTITY_MAX)) return count(BAD_QUANTITY);
    int64_t hash = order_hash(id);
    if (find(hash, id) != nullptr) return count(DUPLICATE);
    Book& book = books[symbol];
    book.begin();
    int64_t code = put_in(book, 2 * symbol + side + 1, id, hash, flipped(price, side), quantity, likely);
    book.end();
    return count(code);
  }
  void set_quantity(Book& book, Record* order, int64_t quantity) {
    uint32_t number = order->in_use, side = ((order->owner & OWNER_MASK) - 1) & 1;
    record(number).quantity += quantity - order->quantity;
    order->quantity = quantity;
    if (book.sides[side].best == number) show_best(book, side);
  }
  int64_t reduce(int64_t id, int64_t quantity, Record* likely) {
    Record* order = order_at(likely, id);
    if (order == nullptr) return count(UNKNOWN);
    if (!(0 < quantity && quantity <= QUANTITY_MAX)) return count(BAD_QUANTITY);
    int64_t left = order->quantity - quantity;
    Book& book = book_of(order->owner & OWNER_MASK);
    book.begin();
    if (left <= 0) take_out(book, order);
    else set_quantity(book, order, left);
    book.end();
    return left >= 0 ? count(OK) : count(TOO_MUCH);
  }
  int64_t erase(int64_t id, Record* likely) {
    Record* order = order_at(likely, id);
    if (order == nullptr) return count(UNKNOWN);
    Book& book = book_of(order->owner & OWNER_MASK);
    book.begin();
    take_out(book, order);
    book.end();
    return count(OK);
  }
  int64_t replace(int64_t old_id, int64_t new_id, int64_t price, int64_t quantity, Record* likely) {
    Record* order = order_at(likely, old_id);
    if (order == nullptr) return count(UNKNOWN);
    if (!(-NO_KEY < price && price < NO_KEY)) return count(BAD_PRICE);
    if (!(0 < quantity && quantity <= QUANTITY_MAX)) return count(BAD_QUANTITY);
    int64_t hash = order_hash(new_id);
    if (new_id != old_id && find(hash, new_id) != nullptr) return count(DUPLICATE);
    uint32_t owner = order->owner & OWNER_MASK;
    Book& book = book_of(owner);
    book.begin();
    take_out(book, order);
    int64_t code = put_in(book, owner, new_id, hash, flipped(price, (owner - 1) & 1), quantity, nullptr);
    book.end();
    return count(code);
  }
  int64_t modify(int64_t id, int64_t price, int64_t quantity, Record* likely) {
    Record* order = order_at(likely, id);
    if (order == nullptr) return count(UNKNOWN);
    uint32_t owner = order->owner & OWNER_MASK;
    bool is_elsewhere = flipped(record(order->in_use).key, (owner - 1) & 1) != price;
    if (is_elsewhere || !(0 < quantity && quantity <= order->quantity)) return replace(id, id, price, quantity, order);
    Book& book = book_of(owner);
    book.begin();
    set_quantity(book, order, quantity);
    book.end();
    return count(OK);
  }

  // --- batch ---
  int64_t apply(Message& m, Record* likely) {
    int64_t code = BAD_KIND;
    if (m.kind == ADD) code = add(m.symbol, m.id, m.side, m.price, m.quantity, likely);
    else if (m.kind == DELETE) code = erase(m.id, likely);
    else if (m.kind == EXECUTE || m.kind == CANCEL) code = reduce(m.id, m.quantity, likely);
    else if (m.kind == REPLACE) code = replace(m.id, m.new_id, m.price, m.quantity, likely);
    else if (m.kind == MODIFY) code = modify(m.id, m.price, m.quantity, likely);
    m.code = code;
    return code;
  }
  INLINE Record* look_for_order(int64_t id) {
    Record* home = orders().home(order_hash(id));
    Table::ask_for(home);
    return home;
  }
  INLINE Record* look_for_level(int64_t key, uint32_t owner) {
    Record* home = levels().home(level_hash(key, owner));
    Table::ask_for(home);
    return home;
  }
  INLINE Record* look_around_order(int64_t id, Record* home) {
    Record* order = Table::find_from(home, id, 0, 0);
    if (order == nullptr) return order;
    __builtin_prefetch(&book_of(order->owner & OWNER_MASK).sequence, 1);
    __builtin_prefetch(&record(order->in_use), 1);
    __builtin_prefetch(&record(order->previous), 1);
    __builtin_prefetch(&record(order->next), 1);
    return order;
  }
  INLINE void look_for_successor(Record* order, int64_t id, int64_t price) {
    if (order == nullptr) return;
    uint32_t owner = order->owner & OWNER_MASK;
    look_for_order(id);
    look_for_level(flipped(price, (owner - 1) & 1), owner);
  }
  INLINE Record* look_around_level(int64_t symbol, int64_t side, int64_t price, Record* home) {
    Record* level = Table::find_from(home, flipped(price, side), 2 * symbol + side + 1, OWNER_MASK);
    if (level != nullptr) {
      __builtin_prefetch(&record(level->previous), 1);
    } else if (symbol < symbols && side <= 1) {
      char* root = (char*)&node(books[symbol].sides[side].root);
      for (int offset = 0; offset < 256; offset += 64) __builtin_prefetch(root + offset, 1);
    }
    return level;
  }
  INLINE void look_for(Message& m) {
    Record* home = look_for_order(m.id);
    if (m.kind == ADD) {
      __builtin_prefetch(&books[m.symbol].sequence, 1);
      home = look_for_level(flipped(m.price, m.side), 2 * m.symbol + m.side + 1);
    }
    m.code = (int64_t)home;
  }
  INLINE void look_around(Message& m) {
    Record *home = (Record*)m.code, *likely;
    if (m.kind == ADD) {
      likely = look_around_level(m.symbol, m.side, m.price, home);
    } else {
      likely = look_around_order(m.id, home);
      if (m.kind == REPLACE) look_for_successor(likely, m.new_id, m.price);
    }
    m.code = (int64_t)likely;
  }
};

// --- books of levels: stages/domain/orderbook/l2.py and l2_book.py ---
static const int64_t BLOCK_KEYS = 16, USED_MAX = 15, SIDE_LIVE_MIN = 4, GRAVES_MAX = 8, SIDE_JOINED_MAX = 12;
static const int64_t LIVE = 1, USED = 1 << 8, OFFSET_BITS = 16;

struct Block { int64_t keys[BLOCK_KEYS], quantities[BLOCK_KEYS]; };

struct Entry {
  int64_t low, place;

  int64_t used() const { return place >> 8 & 0xFF; }
  int64_t live() const { return place & 0xFF; }
};

struct LevelSide {
  int64_t levels, capacity, dropped, blocks, blocks_max, moves;
  Entry directory[];

  Block& block(int64_t index) { return *(Block*)((char*)this + (directory[index].place >> OFFSET_BITS)); }
  int64_t find_block(int64_t key) {
    int64_t base = 0;
    for (int64_t size = blocks; size > 1;) {
      int64_t half = size >> 1;
      base += half & ((directory[base + half].low - key - 1) >> 63);
      size -= half;
    }
    return base;
  }
  static int64_t find_key(const Block& block, int64_t key) {
    int64_t below = 0;
    for (int64_t i = 3; i < USED_MAX; i += 4) below += block.keys[i] < key;
    below *= 4;
    const int64_t* at = block.keys + below;
    return below + (at[0] < key) + (at[1] < key) + (at[2] < key);
  }
  Best best() {
    int64_t used = directory[blocks - 1].used();
    Block& last = block(blocks - 1);
    return used > 0 ? Best{last.keys[used - 1], last.quantities[used - 1]} : Best{0, 0};
  }
  void set(int64_t key, int64_t quantity) {
    int64_t index = find_block(key);
    Block& in = block(index);
    int64_t place = find_key(in, key);
    if (in.keys[place] != key) {
      if (quantity != 0) add(key, quantity);
      return;
    }
    int64_t change = (quantity != 0) - (in.quantities[place] != 0);
    if ((change > 0) & (levels == capacity)) return add(key, quantity);
    in.quantities[place] = quantity;
    if (change == 0) return;
    directory[index].place += LIVE * change;
    levels += change;
    int64_t live = directory[index].live(), used = directory[index].used();
    if ((change < 0) & ((place == used - 1) | (live < SIDE_LIVE_MIN) | (used - live > GRAVES_MAX))) tidy(index);
  }
  void add(int64_t key, int64_t quantity) {
    if (levels == capacity) {
      dropped++;
      if (!drop_deepest(key)) return;
    }
    int64_t index = find_block(key);
    if (directory[index].used() == USED_MAX) {
      if (directory[index].live() <= SIDE_JOINED_MAX) {
        bury(index);
      } else {
        if (blocks == blocks_max) {
          drop_block();
          if (index == 0) {
            dropped++;
            return;
          }
          index--;
        }
        split(index);
        index = find_block(key);
      }
    }
    Block& in = block(index);
    int64_t place = find_key(in, key);
    if (in.keys[place] != key) {
      for (int64_t at = directory[index].used(); at > place; at--) {
        in.keys[at] = in.keys[at - 1];
        in.quantities[at] = in.quantities[at - 1];
      }
      in.keys[place] = key;
      directory[index].place += USED;
    }
    in.quantities[place] = quantity;
    directory[index].place += LIVE;
    levels++;
  }
  void set_blocks(int64_t count) {
    blocks = count;
    moves++;
  }
  void fill(int64_t index, int64_t used, int64_t live) {
    std::fill(block(index).keys + used, block(index).keys + BLOCK_KEYS, NO_KEY);
    int64_t& place = directory[index].place;
    place = place >> OFFSET_BITS << OFFSET_BITS | USED * used | LIVE * live;
  }
  void bury(int64_t index) {
    Block& in = block(index);
    int64_t kept = 0, used = directory[index].used();
    for (int64_t i = 0; i < used; i++) {
      int64_t key = in.keys[i], quantity = in.quantities[i];
      in.keys[kept] = key;
      in.quantities[kept] = quantity;
      kept += quantity != 0;
    }
    fill(index, kept, kept);
  }
  void split(int64_t index) {
    int64_t free = directory[blocks].place;
    for (int64_t at = blocks; at > index + 1; at--) directory[at] = directory[at - 1];
    directory[index + 1].place = free;
    Block &lower = block(index), &upper = block(index + 1);
    int64_t live = 0, half = BLOCK_KEYS / 2;
    for (int64_t i = 0; i < USED_MAX - half; i++) {
      upper.keys[i] = lower.keys[half + i];
      upper.quantities[i] = lower.quantities[half + i];
      live += upper.quantities[i] != 0;
    }
    directory[index + 1].low = upper.keys[0];
    fill(index + 1, USED_MAX - half, live);
    fill(index, half, directory[index].live() - live);
    set_blocks(blocks + 1);
  }
  void remove_block(int64_t index) {
    int64_t last = blocks - 1, free = directory[index].place;
    for (int64_t at = index; at < last; at++) directory[at] = directory[at + 1];
    directory[last].place = free;
    directory[0].low = LOWEST;
    set_blocks(last);
  }
  void tidy(int64_t index) {
    int64_t live = directory[index].live();
    if (directory[index].used() - live > GRAVES_MAX || live == 0) bury(index);
    if (live < SIDE_LIVE_MIN && blocks > 1) {
      if (live == 0) remove_block(index);
      else if (index + 1 < blocks && live + directory[index + 1].live() <= SIDE_JOINED_MAX) join(index);
      else if (index > 0 && live + directory[index - 1].live() <= SIDE_JOINED_MAX) join(index - 1);
    }
    trim();
  }
  void join(int64_t index) {
    bury(index);
    bury(index + 1);
    Block &lower = block(index), &upper = block(index + 1);
    int64_t used = directory[index].used(), more = directory[index + 1].used();
    std::copy(upper.keys, upper.keys + more, lower.keys + used);
    std::copy(upper.quantities, upper.quantities + more, lower.quantities + used);
    fill(index, used + more, used + more);
    remove_block(index + 1);
  }
  void trim() {
    for (;;) {
      Entry& last = directory[blocks - 1];
      Block& in = block(blocks - 1);
      int64_t used = last.used();
      while (used > 0 && in.quantities[used - 1] == 0) in.keys[--used] = NO_KEY, last.place -= USED;
      if (used > 0 || blocks == 1) break;
      set_blocks(blocks - 1);
    }
  }
  bool drop_deepest(int64_t key) {
    int64_t index = 0, at = 0;
    while (directory[index].live() == 0) index++;
    Block& deepest = block(index);
    while (deepest.quantities[at] == 0) at++;
    if (key < deepest.keys[at]) return false;
    deepest.quantities[at] = 0;
    directory[index].place -= LIVE;
    levels--;
    tidy(index);
    return true;
  }
  void drop_block() {
    int64_t live = directory[0].live();
    dropped += live;
    levels -= live;
    remove_block(0);
  }
};

struct alignas(128) LevelBook {
  Best best[2];
  int64_t mid_doubled, spread, state, unused, sequence, kind, sides[2];

  LevelSide& side(int64_t index) { return *(LevelSide*)((char*)this + sides[index]); }
  void show_best(int64_t index) {
    Best now = side(index).best(), before = best[index];
    now.price = (now.price ^ -index) + index;
    best[index] = now;
    if ((before.price == now.price) & (before.quantity != 0) & (now.quantity != 0)) return;
    bool has_both = (best[0].quantity != 0) & (best[1].quantity != 0);
    mid_doubled = has_both ? best[0].price + best[1].price : 0;
    spread = has_both ? best[1].price - best[0].price : 0;
  }
  bool event(const Message& m) {
    __atomic_store_n(&sequence, sequence | 1, __ATOMIC_RELAXED);
    std::atomic_thread_fence(std::memory_order_release);
    int64_t index = m.side, key = (m.price ^ -index) + index;
    side(index).set(key, std::max<int64_t>(m.quantity, 0));
    if (key >= ((best[index].price ^ -index) + index) || best[index].quantity == 0) show_best(index);
    __atomic_store_n(&sequence, (sequence | 1) + 1, __ATOMIC_RELEASE);
    return (best[0].quantity != 0) & (best[1].quantity != 0) & (spread <= 0);
  }
};

static const int64_t AHEAD_BOOK = 16, AHEAD_SIDE = 12, AHEAD_BLOCK = 7;

struct LevelBooks {
  LevelBook books[1];

  INLINE void look_for(const Message& m) { __builtin_prefetch(&books[m.symbol], 1), __builtin_prefetch(&books[m.symbol].sequence, 1); }
  INLINE void look_at(const Message& m) {
    LevelSide& side = books[m.symbol].side(m.side);
    __builtin_prefetch(&side, 1);
    __builtin_prefetch((char*)&side + 64, 1);
  }
  INLINE void look_in(const Message& m) {
    LevelSide& side = books[m.symbol].side(m.side);
    char* block = (char*)&side.block(side.find_block(m.side == 0 ? m.price : -m.price));
    for (int64_t offset = 0; offset < (int64_t)sizeof(Block); offset += 64) __builtin_prefetch(block + offset, 1);
  }
};

// --- what the benchmark calls: a loop over messages, alone and with the clock ---
template <class Books, class Ahead, class Apply>
static INLINE int64_t loop(Books* books, Message* messages, int64_t count, int64_t* samples, Ahead ahead, Apply apply) {
  int64_t wrong = 0, last = samples ? cycles() : 0;
  for (int64_t i = 0; i < count; i++) {
    ahead(books, messages, i, count);
    wrong += apply(books, messages[i]);
    if (samples) {
      int64_t now = cycles();
      samples[i] = now - last;
      last = now;
    }
  }
  return wrong;
}

extern "C" {
int64_t apply_orders(Engine* engine, Message* messages, int64_t count, int64_t* samples) {
  for (int64_t i = 0; i < std::min<int64_t>(AHEAD_TABLE, count); i++) engine->look_for(messages[i]);
  for (int64_t i = 0; i < std::min<int64_t>(AHEAD_LEVEL, count); i++) engine->look_around(messages[i]);
  auto ahead = [](Engine* engine, Message* messages, int64_t i, int64_t count) INLINE_LAMBDA {
    if (i + AHEAD_TABLE < count) engine->look_for(messages[i + AHEAD_TABLE]);
    if (i + AHEAD_LEVEL < count) engine->look_around(messages[i + AHEAD_LEVEL]);
  };
  auto apply = [](Engine* engine, Message& message) {
    return (int64_t)(engine->apply(message, (Record*)message.code) < 0);
  };
  return samples ? loop(engine, messages, count, samples, ahead, apply)
                 : loop(engine, messages, count, (int64_t*)nullptr, ahead, apply);
}
int64_t apply_orders_singly(Engine* engine, Message* messages, int64_t count, int64_t* samples) {
  auto ahead = [](Engine*, Message*, int64_t, int64_t) {};
  auto apply = [](Engine* engine, Message& message) { return (int64_t)(engine->apply(message, nullptr) < 0); };
  return samples ? loop(engine, messages, count, samples, ahead, apply)
                 : loop(engine, messages, count, (int64_t*)nullptr, ahead, apply);
}
int64_t apply_levels(LevelBooks* books, Message* messages, int64_t count, int64_t* samples) {
  for (int64_t i = 0; i < std::min(AHEAD_BOOK, count); i++) books->look_for(messages[i]);
  for (int64_t i = 0; i < std::min(AHEAD_SIDE, count); i++) books->look_at(messages[i]);
  for (int64_t i = 0; i < std::min(AHEAD_BLOCK, count); i++) books->look_in(messages[i]);
  auto ahead = [](LevelBooks* books, Message* messages, int64_t i, int64_t count) INLINE_LAMBDA {
    if (i + AHEAD_BOOK < count) books->look_for(messages[i + AHEAD_BOOK]);
    if (i + AHEAD_SIDE < count) books->look_at(messages[i + AHEAD_SIDE]);
    if (i + AHEAD_BLOCK < count) books->look_in(messages[i + AHEAD_BLOCK]);
  };
  auto apply = [](LevelBooks* books, Message& message) { return (int64_t)books->books[message.symbol].event(message); };
  return samples ? loop(books, messages, count, samples, ahead, apply)
                 : loop(books, messages, count, (int64_t*)nullptr, ahead, apply);
}
}
