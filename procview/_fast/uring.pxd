"""io_uring and FUSE's use of it, as linux/io_uring.h and linux/fuse.h have them since 6.14; io_uring_setup(2) and
Documentation/filesystems/fuse-io-uring.rst say how they are used.

Written down here and not included, because what compiles procview may have older headers than what runs it. This part
of the kernel's interface does not change.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:                     # system calls; the same numbers on all architectures
    SYS_io_uring_setup = 425
    SYS_io_uring_enter = 426

cdef enum:
    IORING_SETUP_CQSIZE = 1 << 3
    IORING_SETUP_SQE128 = 1 << 10
    IORING_SETUP_SINGLE_ISSUER = 1 << 12
    IORING_SETUP_DEFER_TASKRUN = 1 << 13
    IORING_SETUP_NO_SQARRAY = 1 << 16
    IORING_ENTER_GETEVENTS = 1
    IORING_FEAT_SINGLE_MMAP = 1
    IORING_OFF_SQ_RING = 0
    IORING_OFF_SQES = 0x10000000
    IORING_OP_READ = 22
    IORING_OP_URING_CMD = 46

cdef struct io_sqring_offsets:
    uint32_t head
    uint32_t tail
    uint32_t ring_mask
    uint32_t ring_entries
    uint32_t flags
    uint32_t dropped
    uint32_t array
    uint32_t resv1
    uint64_t user_addr

cdef struct io_cqring_offsets:
    uint32_t head
    uint32_t tail
    uint32_t ring_mask
    uint32_t ring_entries
    uint32_t overflow
    uint32_t cqes
    uint32_t flags
    uint32_t resv1
    uint64_t user_addr

cdef struct io_uring_params:
    uint32_t sq_entries
    uint32_t cq_entries
    uint32_t flags
    uint32_t sq_thread_cpu
    uint32_t sq_thread_idle
    uint32_t features
    uint32_t wq_fd
    uint32_t resv[3]
    io_sqring_offsets sq_off
    io_cqring_offsets cq_off

cdef struct io_uring_sqe:      # of 128 bytes: IORING_SETUP_SQE128
    uint8_t opcode
    uint8_t flags
    uint16_t ioprio
    int32_t fd
    uint64_t off               # of IORING_OP_URING_CMD: the command, in the lower half
    uint64_t addr
    uint32_t len
    uint32_t op_flags
    uint64_t user_data
    uint64_t unused
    uint64_t command[10]

cdef struct io_uring_cqe:
    uint64_t user_data
    int32_t res
    uint32_t flags

cdef enum:
    FUSE_IO_URING_CMD_REGISTER = 1
    FUSE_IO_URING_CMD_COMMIT_AND_FETCH = 2
    FUSE_OVER_IO_URING_2 = 1 << 9      # of INIT's flags2: bit 41

cdef struct fuse_uring_cmd_req:        # in a submission's command
    uint64_t flags
    uint64_t commit_id
    uint16_t qid                       # a CPU's number
    uint8_t padding[6]

cdef struct fuse_uring_ent_in_out:
    uint64_t flags
    uint64_t commit_id
    uint32_t payload_sz
    uint32_t padding
    uint64_t reserved

cdef struct fuse_uring_req_header:
    char in_out[128]                   # fuse_in_header; of a reply: fuse_out_header
    char op_in[128]                    # the first argument
    fuse_uring_ent_in_out ring_ent_in_out
