// Package container runs one command in a container whose file systems are
// disk images.
//
// It hides loop devices, mounts, namespaces, control groups and the daemons
// that some backends need. It does not know what an image is for, where it
// comes from, or how it is stored: it mounts file systems, runs a command in
// them, and takes everything down again. What the kernel has no driver for it
// serves itself, through FUSE: vfat, iso9660 and squashfs (Config.FileSystems).
//
// This package has what its users share: a Backend runs what a Spec says, with
// the streams of an IO, and a Result tells how it ended. It links no library of
// containers, so that it can be used where none is at hand. Package backends
// opens a backend by name; there are two, each a package of its own:
//
//	embedded      runc's libcontainer in a helper process, needs no daemon
//	libvirt-lxc   a transient domain of libvirt's LXC driver
//
// Both run the same helper as process 1 of the container (internal/helper), so
// that a command finds the same surroundings in either: this program again,
// which backends.Main recognises. It mounts what it is handed, runs the command with libcontainer,
// reaps orphans, and puts the images back in order. The caller's side attaches
// loop devices and makes the mounts as file descriptors that belong to no
// directory yet (fsopen(2), open_tree(2)), and hands them over. When either
// side dies, even by SIGKILL, the kernel closes its descriptors, and with the
// last of them mounts and loop devices go.
//
// # What a command finds
//
// The mounts of its Spec, private /proc, /dev, /dev/pts and /dev/shm, a
// read-only /sys, its own host name, and /run and /tmp as the image has them.
// /etc/hosts knows localhost and the own host name and, where there is a network,
// what the host's knows; /etc/resolv.conf then names the host's resolvers. Debian's
// service control is told by a policy-rc.d, unless the image has one, to start
// nothing. /run/systemd/container says that this is a container, as does the
// variable "container". All four are real files, that a command may write to,
// replace or remove: what it leaves is the image's, and only what is ours is taken
// away afterwards. Directories and files that had to be made to mount something
// are removed, unless something was put into them. An image that has no room for them
// needs none: where it has no free inode either, the directory that lacks one is covered
// by a read-only one in memory that shows the same entries. In a root that is only read
// they are in a layer in memory above it, which is as read-only to the command. When
// the command ends, so does every process it left behind.
//
// A command makes any device node and opens few: null, zero, full, random, urandom,
// tty and terminals. It has no swap areas and no keyrings. So nothing that outlives
// a namespace is left on the host.
//
// # Other architectures
//
// FindEmulator tells what runs the programs of a Spec's Arch: the kernel, or an
// Emulator, which a backend uses by itself.
//
// # Secrets
//
// A command can be given secrets (Spec.Secrets) and an ssh-agent (Spec.SSH). They
// are in a file system in memory that only descriptors hold until it is mounted in
// the container, and in no description of it. When the command has ended, what it
// can have written since it began is searched for them: files, names, links and
// attributes of its images and writable directories, as the kernel shows them.
//
// # Security
//
// The containers of both backends are no security boundary. They run without a
// mapping of user ids: root in the container is root of the host, less the
// capabilities that were not given, and can find ways out. Run only scripts
// that may also run on the host.
package container

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"
)

// Backend runs commands in containers. Its methods may be called concurrently.
type Backend interface {
	// Name is the name that package backends knows the backend by.
	Name() string

	// Usable says in one sentence why the backend cannot be used on this machine
	// and what to do about it. It is quick.
	Usable(context.Context) error

	// Probe tells what the backend can do on this machine, for which it tries
	// what only trying tells. The error is that of Usable.
	Probe(context.Context) (Features, error)

	// Run runs a command and returns when it has ended and its images are
	// unmounted and complete. The error is for what kept the command from
	// running or its images from being completed; how the command ended is
	// in the result, also when the context was cancelled. Cancelling ends
	// the processes with SIGTERM and, after the grace, SIGKILL. When the
	// container was lost on the way both are set: the result's reason is
	// BackendLost and the error tells why.
	Run(context.Context, Spec, IO) (Result, error)

	// Reap removes what users of the backend that have died left behind,
	// and only that. It is quick when there is nothing.
	Reap(context.Context) error
}

// Features is what a backend offers on this machine.
type Features struct {
	Archs    []string // that commands can run as without an emulator, such as "x86_64" and "i686"
	Networks []string // "host", "none", "nat", "libvirt:NAME"
	TTY      bool     // an interactive terminal
	Limits   bool     // memory and processor limits
	Version  string   // of the software that makes the containers
}

// MountKind says what a mount's source is.
type MountKind int

// The kinds of mounts.
const (
	Image MountKind = iota // a file that holds a file system
	Dir                    // a directory of the host
	Tmpfs                  // an empty file system in memory
)

// Mount is one file system of a container.
type Mount struct {
	Source   string // image file or directory on the host; empty for Tmpfs
	Target   string // absolute path in the container; "/" exactly once
	Kind     MountKind
	FSType   string // of an Image; "" for what is found there: ext2, ext3, ext4, xfs, btrfs, f2fs, vfat, iso9660, squashfs or erofs
	ReadOnly bool   // an Image of iso9660, squashfs or erofs is in any case

	// Subvolume is what is mounted of a btrfs, by its path; "" for its default.
	Subvolume string

	// Offset and Length are the place in bytes of the file system within
	// the image, the offset a multiple of 512; a zero length reaches to the
	// image's end.
	Offset, Length int64
}

// Spec says what to run. Argv and a mount at "/" are needed; everything else
// has a default.
type Spec struct {
	ID     string  // letters, digits, '.', '_' and '-'; unique among running containers
	Mounts []Mount // an image that is mounted writable cannot be mounted twice

	Argv []string // a name without a slash is looked up in PATH
	Env  []string // "NAME=value"; PATH and HOME have defaults
	Dir  string   // working directory, default "/"; must exist
	User string   // "name", "uid", "name:group" or "uid:gid" of the container; default root

	Arch         string   // one of Archs, such as "i686"; "" for the machine's own
	Hostname     string   // default: the ID
	Capabilities []string // beyond the default set: "CAP_SYS_ADMIN" or "sys_admin"; see Spec.ReachesBeyond
	Network      string   // "nat" (the default), "host", "none", or the name of a libvirt network

	Memory  int64         // limit in bytes, 0 for none; swap is not used on top of it
	CPUs    float64       // limit in processors, 0 for none
	Timeout time.Duration // from the start of the command, 0 for none
	Grace   time.Duration // between SIGTERM and SIGKILL; 0 for DefaultGrace

	Empty             []string // directories of the root that are emptied when the command has ended with status 0; what is mounted there stays
	EmptyAfterFailure bool     // with another status, too

	// ClampSince, unless zero, is when times begin that become ClampTo when the command
	// has ended as for Empty: modification and access times in writable images of file
	// systems other than ext2, ext3 and ext4, which package fsys settles.
	ClampSince, ClampTo time.Time `json:",omitzero"`

	Secrets []Secret // files below SecretsDir; what the command leaves is searched for them
	SSH     bool     // lend an ssh-agent at AgentSocket, as the variable SSH_AUTH_SOCK

	Agent  string   `json:"-"` // socket of the agent to lend; "" for what SSH_AUTH_SOCK of this process names
	Masked [][]byte `json:"-"` // further texts that are *** in the command's streams
}

// Marker is the name by which programs know that they run in a container of
// this package: the variable "container" of process 1 and of the command, and
// the content of /run/systemd/container. See systemd's documentation of its
// container interface.
const Marker = "b9"

// MarkerVariable is the variable as it stands in an environment.
const MarkerVariable = "container=" + Marker

// DefaultGrace is how long a cancelled command may take to end.
const DefaultGrace = 3 * time.Second

// IO connects the command with what its caller has, and is no part of what it is. A
// nil reader is empty, a nil writer discards.
//
// The reader and the writers are used by one goroutine each. When the command
// ends while Stdin, being no *os.File, blocks in a read, that one read
// outlives the run.
type IO struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// TTY is a terminal to give the command instead of the streams above,
	// or nil. Run puts it into raw mode, follows its size, and restores it.
	// Nothing is masked there: who sits at it has the secrets.
	TTY *os.File

	// Lent are ports (TCP) of this machine's loopback that a command with the network
	// "nat" finds at the same address of its own.
	Lent []netip.AddrPort
}

// Reason is how a command ended.
type Reason int

// The reasons.
const (
	Exited      Reason = iota // by itself, with a status
	Signalled                 // by a signal
	Cancelled                 // because the context was cancelled
	TimedOut                  // because it took longer than its timeout
	OutOfMemory               // because it or one of its children hit the memory limit
	BackendLost               // the container vanished without an account
)

var reasons = [...]string{
	Exited:      "exited",
	Signalled:   "signalled",
	Cancelled:   "cancelled",
	TimedOut:    "timed out",
	OutOfMemory: "out of memory",
	BackendLost: "container lost",
}

// String names the reason.
func (r Reason) String() string {
	if r < 0 || int(r) >= len(reasons) {
		return fmt.Sprintf("reason %d", int(r))
	}
	return reasons[r]
}

// Result is how a command ended.
type Result struct {
	Reason   Reason
	Code     int           // exit status; 128 plus the number of the signal that ended the command; -1 without either
	Signal   string        // such as "SIGSEGV", if one ended the command
	Duration time.Duration // from the start of the command to its end
	MaxRSS   int64         // bytes, the largest of the command and the children it waited for

	Leaks    []Leak // where the command left secrets, at most MaxLeaks
	Searched bool   // for secrets, in what the command can have written; not after it was stopped

	// Untouched are the targets of writable images of xfs and btrfs in which the command
	// is known to have changed nothing; where Spec.ClampSince is given. Their bytes are
	// others all the same.
	Untouched []string
}

// MaxLeaks is the number of leaks that a result has at most.
const MaxLeaks = 10

// String is a phrase for a message, such as "exit status 3" or "out of memory".
func (r Result) String() string {
	switch {
	case r.Reason == Exited:
		return fmt.Sprintf("exit status %d", r.Code)
	case r.Reason == Signalled:
		return "ended by " + r.Signal
	case r.Reason == TimedOut && r.Duration > 0:
		return fmt.Sprintf("timed out after %v", r.Duration.Round(time.Millisecond))
	}
	return r.Reason.String()
}

// StartError is wrapped by the error of a run whose command is not in the
// image, or can't be executed because of what it is. A file that only the
// kernel refuses, such as one for another processor, is no StartError: it ends
// with the exit status 255, and standard error says why.
type StartError struct {
	Command string
	Missing bool
	Cause   string
}

// Error says which command, and why.
func (e *StartError) Error() string {
	if e.Missing {
		return fmt.Sprintf("command %q is not in the image: %s", e.Command, e.Cause)
	}
	return fmt.Sprintf("command %q can't be executed: %s", e.Command, e.Cause)
}

// Names of the backends.
const (
	Embedded = "embedded"
	Libvirt  = "libvirt-lxc"
)

// FileSystems knows file systems in images.
type FileSystems interface {
	// Probe names the file system in an image of size bytes: "ext4", "xfs", "vfat" and
	// so on, "" for none that is known.
	Probe(image io.ReaderAt, size int64) (kind string, err error)

	// Serves tells whether Serve can serve a kind.
	Serves(kind string) bool

	// Serve takes over device, a descriptor of /dev/fuse with a mount at its other end,
	// and answers the requests for the file system in a part of the image, in bytes,
	// until the mount is gone. None is larger than largest bytes.
	Serve(device int, image *os.File, offset, length int64, kind string, readOnly bool, largest int) (Served, error)
}

// Served is a file system that requests are answered for. It is an alias, so that who serves
// need not import this package.
type Served = interface {
	// Close waits until the mount is gone, patience at most (then the error is EBUSY),
	// and completes the image.
	Close(patience time.Duration) error
	// Progress counts the reads and writes of the image: those that have begun, and those that
	// have ended. Where some have begun and none ends, nobody gets an answer.
	Progress() (begun, ended int64)
}

// Config says where a backend works.
type Config struct {
	// RunDir is a directory for control files, made when needed; a short
	// path that only its owner can enter. "" for /run/b9.
	RunDir string

	LibvirtURI      string // "" for lxc:///
	LibvirtEmulator string // path of libvirt_lxc; "" for libvirt's own choice

	// LibvirtAnswer is how long libvirtd may take for an answer before a run is given
	// up: see package libvirt. 0 is half a minute.
	LibvirtAnswer time.Duration

	// FileSystems tells file systems apart and serves those that the kernel has no
	// driver for: fuse.FileSystems of engine/fsys/fuse. nil for none: then every image
	// needs its type (Mount.FSType), and the kernel's drivers have to do.
	FileSystems FileSystems

	// UserSpace are file systems that are served in user space, through FUSE, though
	// the kernel may have drivers for them: vfat, iso9660, squashfs. Without a driver
	// they are in any case.
	UserSpace []string
}
