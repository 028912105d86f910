"""libzmq's functions, where pyzmq has loaded them: to ask for a socket's events, or for a message, pyzmq runs some Python."""

cdef extern from *:
    """
    #include <dlfcn.h>
    #include <stddef.h>
    #include <stdint.h>

    typedef struct { uint64_t content[8]; } zmq_message;  /* zmq_msg_t */

    static int (*libzmq_getsockopt)(void*, int, void*, size_t*);
    static int (*libzmq_init)(zmq_message*);
    static int (*libzmq_receive)(zmq_message*, void*, int);
    static int (*libzmq_more)(const zmq_message*);
    static size_t (*libzmq_size)(const zmq_message*);
    static void* (*libzmq_data)(zmq_message*);
    static int (*libzmq_close)(zmq_message*);

    static int find_libzmq(const char* extension) {
        void* library = dlopen(extension, RTLD_LAZY | RTLD_NOLOAD);
        return library
            && (*(void**)&libzmq_getsockopt = dlsym(library, "zmq_getsockopt"))
            && (*(void**)&libzmq_init = dlsym(library, "zmq_msg_init"))
            && (*(void**)&libzmq_receive = dlsym(library, "zmq_msg_recv"))
            && (*(void**)&libzmq_more = dlsym(library, "zmq_msg_more"))
            && (*(void**)&libzmq_size = dlsym(library, "zmq_msg_size"))
            && (*(void**)&libzmq_data = dlsym(library, "zmq_msg_data"))
            && (*(void**)&libzmq_close = dlsym(library, "zmq_msg_close"));
    }
    """
    ctypedef struct zmq_message:
        pass
    int find_libzmq(const char*)  # by the extension that is linked with it; whether all were found
    int libzmq_getsockopt(void*, int, void*, size_t*)
    int libzmq_init(zmq_message*)
    int libzmq_receive(zmq_message*, void*, int)
    int libzmq_more(const zmq_message*)
    size_t libzmq_size(const zmq_message*)
    void* libzmq_data(zmq_message*)
    int libzmq_close(zmq_message*)
