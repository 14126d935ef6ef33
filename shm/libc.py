"""The libc calls that kernels make, each with a plain twin for runs with the JIT off.

Compiled code calls them through `numba.types.ExternalFunction`, which survives Numba's disk cache (ctypes function
pointers do not). All arguments are integers; buffers are addresses. Results are as in the manual pages: a negative
result means `errno_value()` says why.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import ctypes
import errno

from numba import njit, types

from shm.atomics import JIT, load_u32

EAGAIN = errno.EAGAIN
EINTR = errno.EINTR
MSG_DONTWAIT = 0x40
MSG_TRUNC = 0x20
MSG_NOSIGNAL = 0x4000
CLOCK_REALTIME = 0
CLOCK_MONOTONIC = 1

_i32, _i64 = types.int32, types.int64
_libc = ctypes.CDLL(None, use_errno=True)
_libc.sem_open.restype, _libc.sem_open.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
_libc.sem_close.argtypes = (ctypes.c_void_p,)

HAS_CLOCKWAIT = hasattr(_libc, "sem_clockwait")
WAIT_CLOCK = CLOCK_MONOTONIC if HAS_CLOCKWAIT else CLOCK_REALTIME
"""The clock of `sem_clockwait`, which glibc has since 2.30; before, `sem_timedwait` stands in for it."""


def sem_open(name):
    """Address of the existing semaphore `name`, for cold code. Raises OSError."""
    address = _libc.sem_open(f"/{name}".encode(), 0)
    if not address:
        raise OSError(ctypes.get_errno(), f"sem_open {name}")
    return address


def sem_close(semaphore):
    """Give an address from `sem_open` back, in cold code."""
    _libc.sem_close(semaphore)


if JIT:
    recv = types.ExternalFunction("recv", _i64(_i32, _i64, _i64, _i32))
    send = types.ExternalFunction("send", _i64(_i32, _i64, _i64, _i32))
    recvmsg = types.ExternalFunction("recvmsg", _i64(_i32, _i64, _i32))
    setsockopt = types.ExternalFunction("setsockopt", _i32(_i32, _i32, _i32, _i64, _i32))
    sched_yield = types.ExternalFunction("sched_yield", _i32())
    getppid = types.ExternalFunction("getppid", _i32())
    nanosleep = types.ExternalFunction("nanosleep", _i32(_i64, _i64))
    clock_gettime = types.ExternalFunction("clock_gettime", _i32(_i32, _i64))
    memmove = types.ExternalFunction("memmove", _i64(_i64, _i64, _i64))
    sem_post = types.ExternalFunction("sem_post", _i32(_i64))
    sem_trywait = types.ExternalFunction("sem_trywait", _i32(_i64))
    if HAS_CLOCKWAIT:
        sem_clockwait = types.ExternalFunction("sem_clockwait", _i32(_i64, _i32, _i64))
    else:
        _sem_timedwait = types.ExternalFunction("sem_timedwait", _i32(_i64, _i64))

        @njit
        def sem_clockwait(semaphore, clock, until):
            return _sem_timedwait(semaphore, until)

    _errno_location = types.ExternalFunction("__errno_location", _i64())

    @njit(inline="never")
    def errno_value():
        return load_u32(_errno_location())

else:
    _P, _N = ctypes.c_void_p, ctypes.c_size_t

    def _twin(name, result, *arguments):
        function = getattr(_libc, name)
        function.restype, function.argtypes = result, arguments

        def call(*values):
            return function(*map(int, values))

        call.__name__ = name
        return call

    recv = _twin("recv", ctypes.c_ssize_t, ctypes.c_int, _P, _N, ctypes.c_int)
    send = _twin("send", ctypes.c_ssize_t, ctypes.c_int, _P, _N, ctypes.c_int)
    recvmsg = _twin("recvmsg", ctypes.c_ssize_t, ctypes.c_int, _P, ctypes.c_int)
    setsockopt = _twin("setsockopt", ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int, _P, ctypes.c_uint32)
    sched_yield = _twin("sched_yield", ctypes.c_int)
    getppid = _twin("getppid", ctypes.c_int)
    nanosleep = _twin("nanosleep", ctypes.c_int, _P, _P)
    clock_gettime = _twin("clock_gettime", ctypes.c_int, ctypes.c_int, _P)
    memmove = _twin("memmove", ctypes.c_void_p, _P, _P, _N)
    sem_post = _twin("sem_post", ctypes.c_int, _P)
    sem_trywait = _twin("sem_trywait", ctypes.c_int, _P)
    if HAS_CLOCKWAIT:
        sem_clockwait = _twin("sem_clockwait", ctypes.c_int, _P, ctypes.c_int, _P)
    else:
        _sem_timedwait = _twin("sem_timedwait", ctypes.c_int, _P, _P)

        def sem_clockwait(semaphore, clock, until):
            return _sem_timedwait(semaphore, until)

    def errno_value():
        return ctypes.get_errno()
