"""Words in shared memory: atomic loads and stores, fences, and plain words, all by integer address.

Every word that two processes touch goes through this file. A plain read in a spin loop is hoisted by LLVM into an
endless jump, and on weakly ordered machines a plain store says nothing about the stores before it.

Each function exists twice under one name: as a Numba intrinsic (callable from compiled code only) and, when Numba's
JIT is switched off, as a plain twin over ctypes, so that kernels run as ordinary Python in tests. Cold Python code
that must read or write a live word uses `peek` and `poke`, which work in both modes.

Addresses are int64 and must be multiples of 8 (of 1 for bytes and for the `_unaligned` pair).
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Intrinsics are written for Numba's typing machinery, which has no types of its own.

import ctypes

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from shm.processor import CPU_FLAGS

JIT = not numba.config.DISABLE_JIT
IS_X86 = __import__("platform").machine() in ("x86_64", "AMD64")

ORDERED_READ = ("rdtscp" if "rdtscp" in CPU_FLAGS else "lfence") if IS_X86 else "isb"
"""How `cycles_ordered` waits. Virtual machines may hide rdtscp, which is an illegal instruction then."""

_I64 = ir.IntType(64)
_I32 = ir.IntType(32)
_I16 = ir.IntType(16)
_I8 = ir.IntType(8)


def peek(address: int) -> int:
    """The int64 word at `address`, for cold code. Aligned 8-byte loads are single instructions."""
    return ctypes.c_int64.from_address(address).value


def poke(address: int, value: int) -> None:
    """Store an int64 word at `address`, for cold code that is the word's only writer."""
    ctypes.c_int64.from_address(address).value = value


# What differs by machine is emitted as LLVM's intrinsics, never as assembly: that needs a parser, which Numba does not
# set up, and without one LLVM aborts the process.


def _call(builder, name, result, *arguments):
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(builder.module.declare_intrinsic(name, (), kind), arguments)


def emit_pause(builder, x86):
    """Emit `pause` for x86, `isb` for aarch64, which waits about as long."""
    if x86:
        _call(builder, "llvm.x86.sse2.pause", ir.VoidType())
    else:
        _call(builder, "llvm.aarch64.isb", ir.VoidType(), _I32(15))


def emit_read(builder, x86):
    """Emit a read of the counter. (LLVM's readsteadycounter is a constant 0 on aarch64.)"""
    if x86:
        return _call(builder, "llvm.readcyclecounter", _I64)
    name = builder.module.add_metadata(["cntvct_el0"])
    return _call(builder, "llvm.read_volatile_register.i64", _I64, name)


def emit_ordered_read(builder, how):
    """Emit an ordered read of the counter; `how` is one of the values of ORDERED_READ."""
    if how == "rdtscp":
        return builder.extract_value(_call(builder, "llvm.x86.rdtscp", ir.LiteralStructType([_I64, _I32])), 0)
    if how == "lfence":
        _call(builder, "llvm.x86.sse2.lfence", ir.VoidType())
    else:
        emit_pause(builder, x86=False)  # the instruction is a fence for instructions
    return emit_read(builder, x86=how == "lfence")


if JIT:

    def _loader(ordering, width, doc, align=None):
        @intrinsic
        def load(typingctx, address):
            signature = types.int64(types.int64)

            def codegen(context, builder, signature, args):
                pointer = builder.inttoptr(args[0], width.as_pointer())
                if ordering is None:
                    value = builder.load(pointer, align=align or width.width // 8)
                else:
                    value = builder.load_atomic(pointer, ordering, 8)
                return value if width is _I64 else builder.zext(value, _I64)

            return signature, codegen

        load.__doc__ = doc
        return load

    def _storer(ordering, width, doc, align=None):
        @intrinsic
        def store(typingctx, address, value):
            signature = types.void(types.int64, types.int64)

            def codegen(context, builder, signature, args):
                pointer = builder.inttoptr(args[0], width.as_pointer())
                value = args[1] if width is _I64 else builder.trunc(args[1], width)
                if ordering is None:
                    builder.store(value, pointer, align=align or width.width // 8)
                else:
                    builder.store_atomic(value, pointer, ordering, 8)
                return context.get_dummy_value()

            return signature, codegen

        store.__doc__ = doc
        return store

    def _fencer(ordering, doc):
        @intrinsic
        def fence(typingctx):
            signature = types.void()

            def codegen(context, builder, signature, args):
                builder.fence(ordering)
                return context.get_dummy_value()

            return signature, codegen

        fence.__doc__ = doc
        return fence

    load_acquire = _loader("acquire", _I64, "Load a word; later accesses stay after it.")
    load_relaxed = _loader("monotonic", _I64, "Load a word untorn, without ordering.")
    load_word = _loader(None, _I64, "Plain 8-byte load.")
    load_u32 = _loader(None, _I32, "Plain 4-byte load, zero-extended.")
    load_u8 = _loader(None, _I8, "Plain byte load, zero-extended.")
    store_release = _storer("release", _I64, "Store a word; earlier accesses stay before it.")
    store_relaxed = _storer("monotonic", _I64, "Store a word untorn, without ordering.")
    store_word = _storer(None, _I64, "Plain 8-byte store.")
    store_u32 = _storer(None, _I32, "Plain 4-byte store of the low 32 bits.")
    store_u8 = _storer(None, _I8, "Plain byte store of the low 8 bits.")
    load_unaligned = _loader(None, _I64, "Plain 8-byte load at any address: private bytes only.", align=1)
    load_u32_unaligned = _loader(None, _I32, "Plain 4-byte load at any address, zero-extended.", align=1)
    load_u16_unaligned = _loader(None, _I16, "Plain 2-byte load at any address, zero-extended.", align=1)
    store_unaligned = _storer(None, _I64, "Plain 8-byte store at any address: private bytes only.", align=1)
    fence_acquire = _fencer("acquire", "Loads before the fence stay before everything after it.")
    fence_release = _fencer("release", "Everything before the fence stays before stores after it.")
    fence_seq_cst = _fencer("seq_cst", "Full fence: also orders an earlier store before a later load.")

    @intrinsic
    def store_line(typingctx, address, a, b, c, d, e, f, g, h):
        """Plain stores of eight words, in as few instructions as the machine has for it."""
        signature = types.void(*[types.int64] * 9)

        def codegen(context, builder, signature, args):
            kind = ir.VectorType(_I64, 8)
            value = ir.Constant(kind, ir.Undefined)
            for index in range(8):
                value = builder.insert_element(value, args[index + 1], ir.Constant(_I32, index))
            builder.store(value, builder.inttoptr(args[0], kind.as_pointer()), align=8)
            return context.get_dummy_value()

        return signature, codegen

    @intrinsic
    def pause(typingctx):
        """Tell the core that this is a spin loop (x86 `pause`, aarch64 `isb`)."""
        signature = types.void()

        def codegen(context, builder, signature, args):
            emit_pause(builder, IS_X86)
            return context.get_dummy_value()

        return signature, codegen

    @intrinsic
    def prefetch(typingctx, address):
        """Ask for the cache line at `address`, to be written to; never faults, changes nothing."""
        signature = types.void(types.int64)

        def codegen(context, builder, signature, args):
            pointer = builder.inttoptr(args[0], _I8.as_pointer())
            kind = ir.FunctionType(ir.VoidType(), (pointer.type, _I32, _I32, _I32))
            function = builder.module.declare_intrinsic("llvm.prefetch", (pointer.type,), kind)
            builder.call(function, (pointer, _I32(1), _I32(3), _I32(1)))
            return context.get_dummy_value()

        return signature, codegen

    @intrinsic
    def cycles(typingctx):
        """The core's cycle or tick counter: rdtsc on x86-64, cntvct_el0 on aarch64.

        Not ordered: the core may read it some tens of cycles before or after what stands around it. Right for stamps,
        whose steps take far longer than that.
        """
        signature = types.int64()

        def codegen(context, builder, signature, args):
            return emit_read(builder, IS_X86)

        return signature, codegen

    @intrinsic
    def cycles_ordered(typingctx):
        """As `cycles`, read when all instructions before it are done and their loads have their values.

        For the two ends of a measurement of little work, which `cycles` would find half done or not begun. Stores may
        still be on their way, and what follows may begin before the read. rdtscp on x86-64; isb and cntvct_el0 on
        aarch64. It costs what it waits for: never for stamps on the path.
        """
        signature = types.int64()

        def codegen(context, builder, signature, args):
            return emit_ordered_read(builder, ORDERED_READ)

        return signature, codegen

    @intrinsic
    def multiply_shift_32(typingctx, a, b):
        """(a * b) >> 32 with a 128-bit product; both taken as unsigned."""
        signature = types.int64(types.int64, types.int64)

        def codegen(context, builder, signature, args):
            wide = ir.IntType(128)
            product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
            return builder.trunc(builder.lshr(product, ir.Constant(wide, 32)), _I64)

        return signature, codegen

    @intrinsic
    def multiply_wrapping(typingctx, a, b):
        """a * b modulo 2**64, as int64. Numba's own product promises LLVM that it does not wrap (`mul nsw`), so that
        whatever a caller does about a wrapped one, such as masking its sign off, may be optimised away."""
        signature = types.int64(types.int64, types.int64)

        def codegen(context, builder, signature, args):
            return builder.mul(*args)

        return signature, codegen

    @intrinsic
    def add_wrapping(typingctx, a, b):
        """a + b modulo 2**64, as int64; see `multiply_wrapping`."""
        signature = types.int64(types.int64, types.int64)

        def codegen(context, builder, signature, args):
            return builder.add(*args)

        return signature, codegen

    @intrinsic
    def byte_swap(typingctx, value):
        """A 64-bit word with its bytes in the opposite order."""
        signature = types.int64(types.int64)

        def codegen(context, builder, signature, args):
            return builder.bswap(args[0])

        return signature, codegen

    @intrinsic
    def leading_zeros(typingctx, value):
        """Number of leading zero bits of a 64-bit word (64 for 0)."""
        signature = types.int64(types.int64)

        def codegen(context, builder, signature, args):
            return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

        return signature, codegen

    @intrinsic
    def trailing_zeros(typingctx, value):
        """Number of trailing zero bits of a 64-bit word (64 for 0)."""
        signature = types.int64(types.int64)

        def codegen(context, builder, signature, args):
            return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

        return signature, codegen

else:
    import time

    def _signed(value: int) -> int:
        value &= (1 << 64) - 1
        return value - (1 << 64) if value >> 63 else value

    def load_word(address):
        return ctypes.c_int64.from_address(int(address)).value

    def store_word(address, value):
        ctypes.c_int64.from_address(int(address)).value = int(value)

    load_acquire = load_relaxed = load_unaligned = load_word
    store_release = store_relaxed = store_unaligned = store_word

    def load_u32(address):
        return ctypes.c_uint32.from_address(int(address)).value

    load_u32_unaligned = load_u32

    def load_u16_unaligned(address):
        return ctypes.c_uint16.from_address(int(address)).value

    def store_u32(address, value):
        ctypes.c_uint32.from_address(int(address)).value = int(value) & 0xFFFFFFFF

    def load_u8(address):
        return ctypes.c_uint8.from_address(int(address)).value

    def store_u8(address, value):
        ctypes.c_uint8.from_address(int(address)).value = int(value) & 255

    def store_line(address, a, b, c, d, e, f, g, h):
        for index, word in enumerate((a, b, c, d, e, f, g, h)):
            store_word(address + 8 * index, word)

    def fence_acquire():
        pass

    fence_release = fence_seq_cst = pause = fence_acquire

    def prefetch(address):
        pass

    def cycles():
        return time.perf_counter_ns()

    cycles_ordered = cycles

    def multiply_shift_32(a, b):
        return _signed((int(a) % 2**64) * (int(b) % 2**64) >> 32)

    def multiply_wrapping(a, b):
        return _signed(int(a) * int(b))

    def add_wrapping(a, b):
        return _signed(int(a) + int(b))

    def byte_swap(value):
        return int.from_bytes((int(value) & ((1 << 64) - 1)).to_bytes(8, "little"), "big", signed=True)

    def leading_zeros(value):
        return 64 - (int(value) & ((1 << 64) - 1)).bit_length()

    def trailing_zeros(value):
        value = int(value) & ((1 << 64) - 1)
        return (value & -value).bit_length() - 1 if value else 64
