package debian

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/store"
	"b9.build/b9/engine/tool"
)

// machineApt is where the machine keeps its own apt configuration.
const machineApt = "/etc/apt"

// defaultRefresh is how long an answer about the state of an archive is
// trusted before the archive is asked again.
const defaultRefresh = 10 * time.Minute

// defaultFree is the space, in bytes, that a root file system has left for
// what later steps install, unless the call says otherwise. It takes no room
// on the host.
const defaultFree = 1 << 30

// Defaults are what the configuration says where a call of bootstrap() says
// nothing. They are part of the key as if the call had given them.
type Defaults struct {
	Mirror  string        // "" is the machine's own apt configuration
	Refresh time.Duration // how long an answer about an archive is trusted; 0 is 10 minutes
}

// Bootstrap is the operation bootstrap(). The defaults fs are those of its file system.
func Bootstrap(d Defaults, fs image.Defaults) lang.Operation {
	return lang.Operation{
		Name: "bootstrap",
		Doc: `a Debian root file system as an image, with ext4 unless fs= says otherwise

Packages come from where the machine's own apt takes them: every source in
/etc/apt whose suite is the one asked for or belongs to it (bookworm,
bookworm-updates, bookworm-security), with its keys, proxies and passwords. For
another suite the machine's mirrors are asked for that one. mirror= names others.

The step follows the archive: when that has changed, which is asked at most every
refresh, apt resolves again what the call installs, and the step runs again if a
package of that set is another one, by name, version or digest. A change of other
packages runs nothing here; lxc_exec(follows=) is for scripts that install more.
With snapshot= the archive's state is pinned and never asked for.

The image has the sources that were used in /etc/apt/sources.list.d/debian.sources,
without passwords and proxies; no host name, no resolv.conf, an empty machine-id,
no package lists and no logs. Files that the installation made have the build's
time, files from packages keep theirs. mmdebstrap does the work, as root; where
the suite has usr-is-merged, that is installed in place of usrmerge and perl.
With subvolume= the system lies in a subvolume of a btrfs, which is the default
one: who mounts the image without naming a subvolume has it as the root.`,
		Params:  params(),
		Example: `bootstrap(name = "base", suite = "bookworm", packages = ["systemd-sysv", "openssh-server"])`,
		Make:    func(c *lang.Call) (lang.Step, error) { return makeStep(c, d, fs) },
	}
}

func params() []lang.Param {
	return []lang.Param{
		lang.NameParam(),
		{Name: "suite", Type: lang.String, Required: true, Doc: "the suite to install, such as bookworm"},
		{Name: "packages", Type: lang.ListOf(lang.String), Doc: "packages to install beside those of the variant"},
		{Name: "arch", Type: lang.String, Default: starlark.String("amd64"), Enum: strings.Fields("amd64 i386 arm64 armhf armel riscv64 ppc64el s390x mips64el loong64"), Doc: "the architecture, in Debian's words"},
		{Name: "variant", Type: lang.String, Default: starlark.String("minbase"), Enum: []string{"essential", "apt", "minbase", "required", "buildd", "important", "standard"}, Doc: "the set of packages to begin with, as mmdebstrap --variant"},
		{Name: "components", Type: lang.ListOf(lang.String), Doc: "components of the archive (default: those of the machine's sources; main for mirror=)"},
		{Name: "suites", Type: lang.ListOf(lang.String), Doc: `suites to take packages from (default: suite and the "-updates" and "-security" that belong to it)`},
		{Name: "mirror", Type: lang.String | lang.ListOf(lang.String), Doc: `where packages come from instead: URLs, or whole lines such as "deb [trusted=yes] http://repo.example/debian bookworm main"`},
		{Name: "keyring", Type: lang.File, Doc: "the keys that the archive is signed with: a file, or the absolute path of one on the machine"},
		{Name: "snapshot", Type: lang.String, Doc: `pins the archive to this time, such as "20261101T000000Z"; mirror= must be given then, and have the layout of a snapshot service (http://HOST/archive/debian)`},
		{Name: "refresh", Type: lang.String | lang.Int, Doc: `how old an answer about the archive's state may be, such as "1h" (default "10m")`},
		{Name: "fs", Type: lang.String, Default: starlark.String("ext4"), Enum: []string{"ext4", "xfs", "btrfs"}, Doc: "the file system"},
		{Name: "subvolume", Type: lang.String, Doc: `the subvolume of a btrfs that is the root, such as "@"; without it the root is the top of the file system`},
		{Name: "size", Type: lang.Size, Doc: "size of the image; without it as large as its content needs, plus free"},
		{Name: "free", Type: lang.Size, Doc: `space left free when the size follows from the content (default "1G")`},
		{Name: "label", Type: lang.String, Doc: "label of the file system: at most 16 bytes for ext4, 12 for xfs, 255 for btrfs"},
		{Name: "uuid", Type: lang.String, Doc: "UUID of the file system; by default derived from what it holds"},
		{Name: "features", Type: lang.ListOf(lang.String), Doc: `ext4 features to set, or to clear with ^, as mke2fs -O takes them, such as ["^64bit"]`},
		{Name: "inode_ratio", Type: lang.Size, Doc: "bytes for each inode of ext4, as mke2fs -i"},
		{Name: "reserved", Type: lang.Float | lang.Int, Doc: "percentage of ext4 blocks reserved for root (default 0)"},
		{Name: "canonical", Type: lang.Bool, Doc: "give every time later than the build's that time, those of the packages too, as canonical() does; equal content is equal bytes either way"},
	}
}

func makeStep(c *lang.Call, d Defaults, fs image.Defaults) (lang.Step, error) {
	b := &bootstrap{
		Suite: c.String("suite"), Arch: c.String("arch"), Variant: c.String("variant"),
		Packages: c.Strings("packages"), Components: c.Strings("components"), Suites: c.Strings("suites"),
		Mirrors: c.Strings("mirror"), Snapshot: c.String("snapshot"),
		Image: image.FileSystem{
			FS: c.String("fs"), Size: c.Size("size"), Free: c.Size("free"), Label: c.String("label"), UUID: c.String("uuid"),
			InodeRatio: c.Size("inode_ratio"), Reserved: c.Number("reserved"),
		},
		Subvolume: c.String("subvolume"), Canonical: c.Bool("canonical"), Apt: machineApt, Refresh: cmp.Or(d.Refresh, defaultRefresh),
	}
	if b.Image.FS == "ext4" {
		b.Image.Features = fs.Features(c)
	}
	if c.Given("refresh") {
		b.Refresh = c.Duration("refresh")
	}
	if !c.Given("mirror") && d.Mirror != "" {
		b.Mirrors = []string{d.Mirror}
	}
	b.Mirrors, b.Users = withoutUsers(b.Mirrors)
	switch {
	case b.Image.Size > 0 && c.Given("free"):
		c.Errorf("free is for an image whose size follows from its content: leave out size= or free=")
	case b.Image.Size == 0 && !c.Given("free"):
		b.Image.Free = defaultFree
	}
	checkFileSystem(c, b)
	b.check(c)
	return lang.Step{Action: b, Inputs: []lang.StepInput{{Role: "keyring", From: b.keyringArg(c)}}, Outputs: lang.OneFile("raw")}, nil
}

// keyringArg sorts out whether the keyring is a file of the machine or one
// that the build knows.
func (b *bootstrap) keyringArg(c *lang.Call) lang.Input {
	if path := c.String("keyring"); filepath.IsAbs(path) && !lang.IsLabel(path) {
		b.Keyring = filepath.Clean(path)
		return lang.Input{}
	}
	return c.Input("keyring")
}

// check reports what is wrong with the arguments that name things of the
// archive. It also puts the packages in an order that does not depend on the call.
func (b *bootstrap) check(c *lang.Call) {
	wordCheck(c, "suite", suitePattern(), "the name of a suite, such as bookworm", b.Suite)
	wordCheck(c, "suites", suitePattern(), "the name of a suite, such as bookworm-updates", b.Suites...)
	wordCheck(c, "components", componentPattern(), "the name of a component, such as main", b.Components...)
	wordCheck(c, "packages", packagePattern(), "the name of a package, such as openssh-server", b.Packages...)
	slices.Sort(b.Packages)
	b.Packages = slices.Compact(b.Packages)
	if b.Snapshot != "" && !snapshotPattern().MatchString(b.Snapshot) {
		c.Errorf("snapshot: %q is no time: write it as YYYYMMDDTHHMMSSZ, such as \"20261101T000000Z\"", b.Snapshot)
	}
	if _, err := b.given(); err != nil {
		c.Errorf("mirror: %w", err)
	}
}

func wordCheck(c *lang.Call, param string, pattern *regexp.Regexp, what string, words ...string) {
	for _, w := range words {
		if !pattern.MatchString(w) {
			c.Errorf("%s: %q is not %s", param, w, what)
		}
	}
}

var (
	suitePattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+/~-]*$`)
	})
	componentPattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+/-]*$`)
	})
	// A name with its architecture, version or suite, as apt-get install takes it.
	packagePattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?([=/][A-Za-z0-9.+~:_-]+)?$`)
	})
	snapshotPattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z$`)
	})
)

// bootstrap installs Debian into an image. Keys given by the build have the
// role "keyring".
type bootstrap struct {
	Suite      string
	Arch       string
	Variant    string
	Packages   []string // sorted
	Components []string // empty: those of the sources
	Suites     []string // empty: Suite and what belongs to it
	Mirrors    []string `param:"mirror"` // URLs or whole source lines; empty: the machine's
	Snapshot   string   // "" or YYYYMMDDTHHMMSSZ
	Keyring    string   // path of a keyring on the machine, or ""
	Image      image.FileSystem
	Subvolume  string // of a btrfs, with the root; "" for the top
	Canonical  bool   // packages' files have no time later than the build's

	Users   []string      `key:"-"` // user and password for each of Mirrors, "" for none
	Apt     string        `key:"-"` // directory of the machine's apt configuration; what is used of it is fingerprinted
	Refresh time.Duration `key:"-"` // how old an answer about the archive may be
}

// Reads implements engine.Told.
func (b *bootstrap) Reads() string { return "packages that " + b.Suite + " has for it" }

// Kind implements engine.Action.
func (b *bootstrap) Kind() string { return "bootstrap/2" }

// Tools implements engine.Tooled. The program mmdebstrap is the one of the user's
// PATH; those that it calls are not.
func (b *bootstrap) Tools() []engine.Tool {
	return append([]engine.Tool{
		{Name: "mmdebstrap", VersionArgs: []string{"--version"}},
		{Name: tool.FindIn(hostPath, "apt-get"), VersionArgs: []string{"--version"}},
		{Name: tool.FindIn(hostPath, "dpkg"), VersionArgs: []string{"--version"}},
	}, b.Image.Tools()...)
}

// Fingerprint implements engine.Source: it stands for the sources that are
// used and the packages that they have for the call: names, versions and digests,
// by the state of the archive that an answer gave that is not older than refresh.
func (b *bootstrap) Fingerprint(ctx context.Context, w *engine.World) (store.Digest, error) {
	limit := b.Refresh
	if w.Refresh {
		limit = 0
	}
	return b.fingerprint(ctx, w, limit)
}

// Refingerprint implements engine.Moving. What is installed is what the archive
// has by then, so that an answer of a few minutes ago will not do.
func (b *bootstrap) Refingerprint(ctx context.Context, w *engine.World, _ store.Digest) (store.Digest, error) {
	return b.fingerprint(ctx, w, min(b.Refresh, freshAnswer))
}

// fingerprint accepts answers about the archive's state that are younger than
// limit.
func (b *bootstrap) fingerprint(ctx context.Context, w *engine.World, limit time.Duration) (store.Digest, error) {
	sources, err := b.sources()
	if err != nil {
		return store.Digest{}, err
	}
	packages := &resolution{} // of a pinned archive; they are what they are
	if b.Snapshot == "" {
		state, err := b.archiveState(ctx, w, sources, limit)
		if err != nil {
			return store.Digest{}, err
		}
		if packages, err = b.resolved(ctx, w, sources, state); err != nil {
			return store.Digest{}, err
		}
	}
	return b.standsFor(sources, packages)
}

// standsFor is the fingerprint for these packages.
func (b *bootstrap) standsFor(sources []aptSource, packages *resolution) (store.Digest, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", renderSources(publicSources(sources)))
	if err := hashKeyrings(h, b.Keyring, sources); err != nil {
		return store.Digest{}, err
	}
	h.Write(packages.sum())
	return store.Digest(h.Sum(nil)), nil
}

// Run implements engine.Action.
func (b *bootstrap) Run(ctx context.Context, job *engine.Job) (err error) {
	emulator, err := b.chooseEmulator(ctx, job)
	if err != nil {
		return err
	}
	sources, err := b.sources()
	if err != nil {
		return err
	}
	if job.World().Offline && slices.ContainsFunc(sources, remote) {
		return errors.New("the image is not in the store and b9 is offline: build once with network")
	}
	s, err := b.newStaging(ctx, job, sources)
	if err != nil {
		return err
	}
	s.emulator = emulator
	defer func() {
		if err != nil { // a half-installed system is of no use to anyone, and what lets this machine in is nobody's
			err = errors.Join(err, os.RemoveAll(s.root), s.forgetAccess())
		}
	}()
	if err := s.install(ctx); err != nil {
		return err
	}
	if err := s.finish(ctx); err != nil {
		return err
	}
	return b.fill(ctx, job.Output(""), job.Epoch(), tree.FromDir(s.root))
}

// Actions is the table of the actions of this package by their kinds, of which
// a type may have several.
func Actions() engine.Actions {
	return engine.Actions{
		"bootstrap/2":     func() engine.Action { return &bootstrap{} },
		"archive-state/1": func() engine.Action { return &archiveState{} },
	}
}
