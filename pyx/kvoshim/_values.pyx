# The types that a store holds, and their bytes. Plain types have codes of their own and are encoded right
# here; lists and dicts travel as MessagePack, in which the types that it lacks (datetime with its zone,
# integers of any size) become extension values, so that what is read back equals what was set.
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE, PyBytes_CheckExact
from cpython.datetime cimport datetime, import_datetime
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

import msgspec.msgpack

from kvoshim.errors import InvalidKeyError, InvalidKeyTypeError, InvalidValueError

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *length) except NULL
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    bint PyUnicode_CheckExact(object value)

cdef extern from "store_layout.h":
    enum:
        KVO_UNSET, KVO_NONE, KVO_FALSE, KVO_TRUE, KVO_INT, KVO_BIGINT, KVO_FLOAT, KVO_STR, KVO_BYTES
        KVO_DATETIME, KVO_PACKED, KVO_REMOVED
        KVOS_KEY_MAX

import_datetime()

ALLOWED = "None, bool, int, float, str, bytes, datetime, and lists and dicts of these"
DEPTH_MAX = 64  # nesting of lists and dicts

cdef int EXT_BIGINT = 1
cdef int EXT_DATETIME = 2


def _from_extension(int code, data):
    if code == EXT_BIGINT:
        return int.from_bytes(data, "little", signed=True)
    if code == EXT_DATETIME:
        return datetime.fromisoformat(str(data, "ascii"))
    raise ValueError(f"MessagePack extension {code} is not one of kvoshim's")


cdef object _pack = msgspec.msgpack.Encoder().encode
cdef object _unpack = msgspec.msgpack.Decoder(ext_hook=_from_extension).decode
cdef object _Ext = msgspec.msgpack.Ext


cdef object _bigint_bytes(object value):
    return value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)


cdef bint _fits_64(object value) except -1:
    return -0x8000000000000000 <= value <= 0xffffffffffffffff


cdef object _refusal(object value, str where):
    kind = type(value)
    place = f" (at value{where})" if where else ""
    return InvalidValueError(
        f"a value of type {kind.__module__}.{kind.__qualname__}{place} cannot be stored; "
        f"allowed are {ALLOWED}")


cdef object _packable(object value, int depth, str where):
    """The value itself if MessagePack carries it faithfully, else a copy in which the rest are extensions."""
    if value is None or isinstance(value, (bool, float, bytes)):
        return value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidValueError(
                f"the text at value{where} has a lone surrogate: UTF-8 cannot carry it") from None
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, int):
        if _fits_64(value):
            return value if type(value) is int else int(value)
        return _Ext(EXT_BIGINT, _bigint_bytes(int(value)))
    if isinstance(value, datetime):
        return _Ext(EXT_DATETIME, value.isoformat().encode())
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if depth >= DEPTH_MAX:
        raise InvalidValueError(f"lists and dicts may be nested {DEPTH_MAX} deep; this value goes deeper "
                                "(or contains itself)")
    if isinstance(value, (list, tuple)):
        return [_packable(item, depth + 1, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict):
        packed = {}
        for key, item in value.items():
            if not (key is None or isinstance(key, (str, bytes, bool, float))
                    or isinstance(key, int) and _fits_64(key)):
                raise InvalidValueError(
                    f"a dict key of type {type(key).__qualname__} (at value{where}) cannot be "
                    "stored; allowed are str, int of 64 bits, float, bool, bytes and None")
            packed[_packable(key, depth, where)] = _packable(item, depth + 1, f"{where}[{key!r}]")
        return packed
    raise _refusal(value, where)


cdef inline object _bytes_payload(object data, uint32_t type, kvo_payload *payload):
    payload.type = type
    payload.data = PyBytes_AS_STRING(data)
    payload.length = PyBytes_GET_SIZE(data)
    return data


cdef object _text(object value, uint32_t type, kvo_payload *payload):
    cdef Py_ssize_t length
    try:
        payload.data = PyUnicode_AsUTF8AndSize(value, &length)
    except UnicodeEncodeError:
        raise InvalidValueError(
            "a str with a lone surrogate cannot be stored: UTF-8 cannot carry it") from None
    payload.type = type
    payload.length = length
    return value


cdef object _integer(object value, kvo_payload *payload):
    cdef int overflow = 0
    cdef int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow:
        return _bytes_payload(_bigint_bytes(value), KVO_BIGINT, payload)
    payload.type = KVO_INT
    memcpy(payload.scratch, &number, 8)
    payload.data = payload.scratch
    payload.length = 8
    return None


cdef object encode(object value, kvo_payload *payload):
    cdef double real
    if PyFloat_CheckExact(value) or isinstance(value, float):
        real = PyFloat_AS_DOUBLE(value)
        payload.type = KVO_FLOAT
        memcpy(payload.scratch, &real, 8)
        payload.data = payload.scratch
        payload.length = 8
        return None
    if PyLong_CheckExact(value):
        return _integer(value, payload)
    if PyUnicode_CheckExact(value):
        return _text(value, KVO_STR, payload)
    if PyBytes_CheckExact(value):
        return _bytes_payload(value, KVO_BYTES, payload)
    if value is None or value is True or value is False:
        payload.type = KVO_NONE if value is None else KVO_TRUE if value is True else KVO_FALSE
        payload.data = payload.scratch
        payload.length = 0
        return None
    if isinstance(value, int):
        return _integer(int(value), payload)
    if isinstance(value, str):
        return _text(str.__str__(value), KVO_STR, payload)
    if isinstance(value, (bytes, bytearray, memoryview)):
        # A copy: the buffer of a bytearray could move while the store copies it.
        return _bytes_payload(bytes(value), KVO_BYTES, payload)
    if isinstance(value, datetime):
        return _bytes_payload(value.isoformat().encode(), KVO_DATETIME, payload)
    if isinstance(value, (list, tuple, dict)):
        return _bytes_payload(_pack(_packable(value, 0, "")), KVO_PACKED, payload)
    raise _refusal(value, "")


cdef object decode(uint32_t type, const char *data, size_t length):
    cdef int64_t number
    cdef double real
    if type == KVO_FLOAT and length == 8:
        memcpy(&real, data, 8)
        return real
    if type == KVO_INT and length == 8:
        memcpy(&number, data, 8)
        return number
    if type == KVO_STR:
        return PyUnicode_DecodeUTF8(data, length, NULL)
    if type == KVO_BYTES:
        return PyBytes_FromStringAndSize(data, length)
    if type == KVO_NONE:
        return None
    if type == KVO_TRUE:
        return True
    if type == KVO_FALSE:
        return False
    if type == KVO_BIGINT:
        return int.from_bytes(PyBytes_FromStringAndSize(data, length), "little", signed=True)
    if type == KVO_DATETIME:
        return datetime.fromisoformat(PyUnicode_DecodeUTF8(data, length, NULL))
    if type == KVO_PACKED:
        return _unpack(PyBytes_FromStringAndSize(data, length))
    raise ValueError(f"type code {type} with {length} bytes is not a stored value")


cdef const char *key_utf8(object key, Py_ssize_t *length) except NULL:
    cdef const char *utf8
    if not isinstance(key, str):
        raise InvalidKeyTypeError(f"a key is a str of 1 to {KVOS_KEY_MAX} bytes in UTF-8, not a "
                                  f"{type(key).__qualname__} ({key!r:.80})")
    try:
        utf8 = PyUnicode_AsUTF8AndSize(key, length)
    except UnicodeEncodeError:
        raise InvalidKeyError(f"the key {key!r:.80} has a lone surrogate: UTF-8 cannot carry it") from None
    if not 1 <= length[0] <= KVOS_KEY_MAX:
        raise InvalidKeyError(f"a key has 1 to {KVOS_KEY_MAX} bytes in UTF-8; {key!r:.40} has {length[0]}")
    return utf8


def check_key(key):
    """Raises InvalidKeyError unless the key is a str of 1 to 255 bytes in UTF-8."""
    cdef Py_ssize_t length
    key_utf8(key, &length)


def check_name(name):
    """Raises InvalidNameError unless the name is a str of 1 to 255 bytes in UTF-8."""
    from kvoshim.errors import InvalidNameError
    if not isinstance(name, str):
        raise InvalidNameError(f"a name is a str, not a {type(name).__qualname__} ({name!r:.80})")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidNameError(f"the name {name!r:.80} has a lone surrogate: UTF-8 cannot carry it") from None
    if not 1 <= length <= KVOS_KEY_MAX:
        raise InvalidNameError(f"a name has 1 to {KVOS_KEY_MAX} bytes in UTF-8; {name!r:.40} has {length}")
