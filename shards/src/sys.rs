//! The calls that the standard library has no safe form of.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use ringmq_turn::Now;

/// An eventfd with a count of 0, which does not block.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(adopt(fd))
}

/// Takes ownership of a descriptor that the kernel just made for us.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "the kernel's descriptors are not negative");
    // SAFETY: callers pass what a system call or a completion returned as new, and nothing else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Lets a TCP socket that is bound to port 0 have its port when it connects, so that one port serves
/// connections to many far ends.
pub(crate) fn bind_address_no_port(socket: &impl AsRawFd) -> io::Result<()> {
    let yes: libc::c_int = 1;
    // SAFETY: the pointer is valid for a read of the size given.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const yes).cast(),
            size_of_val(&yes) as libc::socklen_t,
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn clock_ms(clock: libc::clockid_t) -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is valid for a write of a timespec.
    let code = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    assert_eq!(code, 0, "Linux has these clocks");
    // SAFETY: the call succeeded, so it wrote the timespec.
    let time = unsafe { time.assume_init() };
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

/// Milliseconds of `CLOCK_MONOTONIC`.
pub(crate) fn mono_ms() -> u64 {
    clock_ms(libc::CLOCK_MONOTONIC)
}

/// Both clocks.
pub(crate) fn now() -> Now {
    Now { mono_ms: mono_ms(), wall_ms: clock_ms(libc::CLOCK_REALTIME) }
}

/// The CPUs that this thread may run on, lowest first.
pub(crate) fn affinity() -> io::Result<Vec<usize>> {
    let set = affinity_set()?;
    Ok((0..libc::CPU_SETSIZE as usize)
        // SAFETY: the index is below CPU_SETSIZE, and the set initialised.
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// The same as the kernel's mask.
pub(crate) fn affinity_set() -> io::Result<libc::cpu_set_t> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the pointer is valid for a write of the size given.
    let code = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a cpu_set_t is plain words, all of them zeroed or written.
    Ok(unsafe { set.assume_init() })
}

/// The soft limit of a resource, `None` when unlimited.
pub(crate) fn limit(resource: libc::__rlimit_resource_t) -> io::Result<Option<u64>> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the pointer is valid for a write of an rlimit.
    let code = unsafe { libc::getrlimit(resource, limit.as_mut_ptr()) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it wrote the limit.
    let limit = unsafe { limit.assume_init() };
    Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur))
}
