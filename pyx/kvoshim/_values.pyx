# The types that a store holds, and their bytes. Plain types have codes of their own and are encoded right
# here; lists and dicts travel as MessagePack, in which the types that it lacks (datetime with its zone,
# integers of any size, dataclasses, arrays) become extension values, so that what is read back equals what was
# set. A dataclass or Struct carries its name and fields; who reads it gets an instance if it has accept()ed that
# class, and a dict otherwise: no stranger decides what is imported or called.
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE, PyBytes_CheckExact
from cpython.datetime cimport datetime, import_datetime
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

import dataclasses
import struct
import sys

import msgspec
import msgspec.msgpack

from kvoshim.errors import InvalidKeyError, InvalidKeyTypeError, InvalidValueError

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *length) except NULL
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    bint PyUnicode_CheckExact(object value)

cdef extern from "store_layout.h":
    enum:
        KVO_UNSET, KVO_NONE, KVO_FALSE, KVO_TRUE, KVO_INT, KVO_BIGINT, KVO_FLOAT, KVO_STR, KVO_BYTES
        KVO_DATETIME, KVO_PACKED, KVO_ARRAY, KVO_REMOVED
        KVOS_KEY_MAX

import_datetime()

ALLOWED = ("None, bool, int, float, str, bytes, datetime, and lists, dicts and sets of these; dataclasses, msgspec "
           "Structs and NumPy arrays of plain elements")
DEPTH_MAX = 64  # nesting of lists and dicts

cdef int EXT_BIGINT = 1
cdef int EXT_DATETIME = 2
cdef int EXT_OBJECT = 3  # [class's name, {field: value}]
cdef int EXT_ARRAY = 4
cdef int EXT_SET = 5  # [element, ...]
cdef dict _accepted = {}  # name -> class
_ARRAY = struct.Struct("<II")  # bytes up to the elements; bytes of the description


def _from_extension(int code, data):
    if code == EXT_BIGINT:
        return int.from_bytes(data, "little", signed=True)
    if code == EXT_DATETIME:
        return datetime.fromisoformat(str(data, "ascii"))
    if code == EXT_OBJECT:
        name, fields = _unpack(data)
        kind = _accepted.get(name)
        return fields if kind is None else _instance(kind, fields)
    if code == EXT_ARRAY:
        return _array(bytes(data), True)
    if code == EXT_SET:
        return set(_unpack(data))
    raise ValueError(f"MessagePack extension {code} is not one of kvoshim's")


def accept(kind):
    """Lets values of a dataclass or msgspec Struct be read as its instances, in this process; returns the class, so it
    serves as a decorator. It is known by its module and name, which have to be the writer's."""
    if not (isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct))):
        raise InvalidValueError(f"{kind!r} is neither a dataclass nor a msgspec Struct")
    _accepted[_name_of(kind)] = kind
    return kind


cdef str _name_of(kind):
    return f"{kind.__module__}.{kind.__qualname__}"


cdef object _instance(kind, fields):
    """An object with these fields; its own initialisation is not run with a stranger's values."""
    if not isinstance(fields, dict):
        raise ValueError(f"a {kind.__qualname__} needs named fields")
    if issubclass(kind, msgspec.Struct):
        return msgspec.convert(fields, kind, strict=False, from_attributes=True)
    made = object.__new__(kind)
    for field in dataclasses.fields(kind):
        if field.name in fields:
            object.__setattr__(made, field.name, fields[field.name])
        elif field.default is not dataclasses.MISSING:
            object.__setattr__(made, field.name, field.default)
        elif field.default_factory is not dataclasses.MISSING:
            object.__setattr__(made, field.name, field.default_factory())
        else:
            raise ValueError(f"a {kind.__qualname__} has no {field.name!r}")
    return made


cdef object _fields(value):
    """The fields of a dataclass or Struct by name, or None if it is neither."""
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in kind.__struct_fields__}
    if dataclasses.is_dataclass(kind):
        return {name: getattr(value, name) for name, field in kind.__dataclass_fields__.items()
                if field._field_type is dataclasses._FIELD}
    return None


cdef object _numpy(value):
    """The module if the value is of one of its types, else None; nothing is imported for that."""
    numpy = sys.modules.get("numpy")
    return numpy if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) else None


cdef bytes _array_bytes(numpy, value):
    """Description and elements of an array; the elements begin at a multiple of 64."""
    if value.dtype.hasobject:
        raise InvalidValueError("a NumPy array of Python objects cannot be stored")
    what = _pack([numpy.lib.format.dtype_to_descr(value.dtype), list(value.shape)])
    start = (_ARRAY.size + len(what) + 63) // 64 * 64
    elements = numpy.ascontiguousarray(value).reshape(-1).view(numpy.uint8) if value.size and value.itemsize else b""
    return b"".join((_ARRAY.pack(start, len(what)), what, bytes(start - _ARRAY.size - len(what)), elements))


cdef object _tuples(what):
    """A description of elements as NumPy wants it: lists of tuples."""
    if not isinstance(what, list):
        return what
    return [tuple(tuple(part) if isinstance(part, list) and i == 2 else _tuples(part) if isinstance(part, list) else part
                  for i, part in enumerate(field)) for field in what]


cdef object _array(data, bint copy):
    """The array in `data` (bytes or a View); ValueError if it is none."""
    import numpy
    head = memoryview(data)
    start, length = _ARRAY.unpack_from(head)
    if start > len(head) or length > start - _ARRAY.size:
        raise ValueError("an array's description does not fit")
    what, shape = _unpack(bytes(head[_ARRAY.size:_ARRAY.size + length]))  # a copy: of a view, the owner may be writing there
    kind = numpy.lib.format.descr_to_dtype(_tuples(what))
    if kind.hasobject or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError("an array of Python objects, or of no shape")
    count = 1
    for side in shape:
        count *= side
    if count * kind.itemsize != len(head) - start:
        raise ValueError("an array's shape does not fit its bytes")
    if count * kind.itemsize == 0:
        return numpy.empty(shape, kind)
    found = numpy.frombuffer(data, kind, count, start).reshape(shape)
    return found.copy() if copy else found


cdef object array_of(object data):
    return _array(data, False)


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
    numpy = _numpy(value)
    if numpy is not None:
        if isinstance(value, numpy.generic):
            return _packable(value.item(), depth, where) if not value.dtype.hasobject else value.item()
        return _Ext(EXT_ARRAY, _array_bytes(numpy, value))
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
    if isinstance(value, (set, frozenset)):
        for item in value:
            if not (item is None or isinstance(item, (str, bytes, bool, int, float, datetime))):
                raise InvalidValueError(f"an element of type {type(item).__qualname__} of a set (at value{where}) cannot be "
                                        "stored; allowed are None, bool, int, float, str, bytes and datetime")
        # In an order of their own: equal sets are equal bytes, and setting one again changes nothing.
        return _Ext(EXT_SET, _pack(sorted((_packable(item, depth + 1, where) for item in value), key=_pack)))
    fields = _fields(value)
    if fields is not None:
        return _Ext(EXT_OBJECT, _pack([_name_of(type(value)), {
            name: _packable(item, depth + 1, f"{where}.{name}") for name, item in fields.items()}]))
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
    numpy = _numpy(value)
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return _bytes_payload(_array_bytes(numpy, value), KVO_ARRAY, payload)
        plain = value.item()
        return encode(plain, payload) if _numpy(plain) is None else _refuse(value)
    return _bytes_payload(_pack(_packable(value, 0, "")), KVO_PACKED, payload)


cdef object _refuse(value):
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
    if type == KVO_ARRAY:
        return _array(PyBytes_FromStringAndSize(data, length), True)
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
