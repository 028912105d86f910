"""NumPy's arrays by its functions in C. What its constructor does from Python is the same and takes ten times as long where
it runs cold: it reads all arguments from objects, and asks the memory's owner for a buffer, twice if that is read-only.

NumPy is loaded with the first array, not before: the daemon makes none, and is a third smaller without it.
"""

cdef extern from *:
    """
    #define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
    #include <numpy/arrayobject.h>
    #define ARRAY(object) ((PyArrayObject *)(object))
    static int numpy_is_loaded = 0;
    """
    enum:
        NPY_MAXDIMS, NPY_ARRAY_CARRAY, NPY_ARRAY_CARRAY_RO, NPY_ITEM_REFCOUNT
    ctypedef Py_ssize_t npy_intp
    ctypedef struct PyArray_Descr
    bint numpy_is_loaded
    void* ARRAY_TYPE "&PyArray_Type"
    void* ARRAY(object)
    int _import_array() except -1
    int PyArray_DescrConverter(object, PyArray_Descr**) except 0
    npy_intp PyDataType_ELSIZE(PyArray_Descr*)
    bint PyDataType_FLAGCHK(PyArray_Descr*, int)
    object PyArray_NewFromDescr(void*, PyArray_Descr*, int, npy_intp*, npy_intp*, void*, int, void*)
    int PyArray_SetBaseObject(void*, void*) except -1
    bint PyArray_Check(object)
    bint PyArray_IS_C_CONTIGUOUS(void*)
    PyArray_Descr* PyArray_DESCR(void*)
    void* PyArray_DATA(void*)
    npy_intp PyArray_NBYTES(void*)
    void Py_INCREF(object)
    void Py_DECREF(void*)


cdef inline int load_numpy() except -1:
    """Before anything else here. It may raise ImportError or RuntimeError, and let other threads run."""
    global numpy_is_loaded
    if not numpy_is_loaded:
        _import_array()
        numpy_is_loaded = True
    return 0


cdef inline object array_at(void* start, Py_ssize_t size, object dtype, tuple shape, bint writable, object base):
    """The bytes from `start` as an array, which keeps its base alive, as does all that is derived from it.

    Raises:
        ValueError, TypeError: type and shape do not make the size, or mean no plain data; the array is not made.
    """
    cdef npy_intp dimensions[NPY_MAXDIMS]
    cdef PyArray_Descr* type = NULL
    cdef Py_ssize_t i, made, count = len(shape)
    cdef bint objects
    load_numpy()
    PyArray_DescrConverter(dtype, &type)
    try:
        made = PyDataType_ELSIZE(type) if count <= NPY_MAXDIMS else 0
        objects = PyDataType_FLAGCHK(type, NPY_ITEM_REFCOUNT)
        for i in range(count if made else 0):
            dimensions[i] = shape[i]
            made = made * dimensions[i] if 0 < dimensions[i] and made <= size // dimensions[i] else 0
        if objects:
            raise TypeError(f"an array of {dtype} holds Python objects: expected numbers")
        if made != size:
            raise ValueError(f"an array of shape {shape} and {dtype} is not one of {size} bytes")
        Py_INCREF(<object>type)
        array = PyArray_NewFromDescr(
            ARRAY_TYPE, type, <int>count, dimensions, NULL, start, NPY_ARRAY_CARRAY if writable else NPY_ARRAY_CARRAY_RO,
            NULL,
        )
    except OverflowError:
        raise ValueError(f"an array of shape {shape} is not one of {size} bytes") from None
    finally:
        Py_DECREF(type)
    Py_INCREF(base)
    PyArray_SetBaseObject(ARRAY(array), <void*>base)
    return array
