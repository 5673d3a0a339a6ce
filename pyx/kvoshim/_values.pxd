"""How a Python value becomes bytes in a store, and back."""
from libc.stdint cimport uint32_t


cdef struct kvo_payload:
    uint32_t type         # enum kvo_type
    size_t length         # bytes at `data`
    const char *data      # lives as long as what encode() returned, or as the payload (scratch)
    char scratch[8]       # a value of fixed size lies here: `data` points into the payload itself


# Fills `payload`; returns the object that keeps payload.data alive. InvalidValueError if the value can't be
# stored.
cdef object encode(object value, kvo_payload *payload)

# The value that encode() was given. ValueError and relatives if the bytes are none.
cdef object decode(uint32_t type, const char *data, size_t length)

# The UTF-8 of a key; lives as long as the key. InvalidKeyError if it is not a str of 1 to 255 bytes.
cdef const char *key_utf8(object key, Py_ssize_t *length) except NULL

# The NumPy array that a KVO_ARRAY's bytes are, without a copy; `data` exports the buffer protocol. ValueError.
cdef object array_of(object data)
