package debian

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/tool"
)

// staging is a root file system while it is installed.
type staging struct {
	*bootstrap
	job     *engine.Job
	sources []aptSource
	dir     string // of the job
	root    string // the root file system
	debs    debCache
	started time.Time
	keyring string // path in the image of a keyring that the build gave, or ""
}

// newStaging writes what mmdebstrap is told into the job's directory.
func (b *bootstrap) newStaging(job *engine.Job, sources []aptSource) (*staging, error) {
	s := &staging{
		bootstrap: b, job: job, sources: sources, dir: job.Dir(), root: filepath.Join(job.Dir(), "root"),
		debs: debCache{dir: filepath.Join(aptCache(job.World().Store), "debs")}, started: time.Now(),
	}
	if err := errors.Join(os.Mkdir(s.path("tmp"), 0o1777), os.MkdirAll(s.debs.dir, 0o755)); err != nil {
		return nil, err
	}
	if err := s.installKeyring(); err != nil {
		return nil, err
	}
	return s, errors.Join(
		os.WriteFile(s.path("b9.sources"), []byte(renderSources(fetchable(s.sources))), 0o600),
		os.WriteFile(s.path(hookFile), []byte(setupHook), 0o700),
	)
}

func (s *staging) path(name string) string { return filepath.Join(s.dir, name) }

// installKeyring copies a keyring that is an input to where apt accepts it: the
// ending of its name says whether it is armoured.
func (s *staging) installKeyring() error {
	var data []byte
	switch {
	case s.job.Has("keyring"):
		text, err := lang.InputText(s.job, "keyring")
		if err != nil {
			return err
		}
		data = []byte(text)
	case s.Keyring == "":
		return nil
	default:
		var err error
		if data, err = os.ReadFile(s.Keyring); err != nil {
			return keyringError(s.Keyring, err)
		}
	}
	s.keyring = "/etc/apt/keyrings/archive-keyring.gpg"
	if bytes.HasPrefix(data, []byte("-----BEGIN")) {
		s.keyring = "/etc/apt/keyrings/archive-keyring.asc"
	}
	file := s.path("keyring" + filepath.Ext(s.keyring))
	for i := range s.sources {
		s.sources[i] = s.sources[i].with("Signed-By", file)
	}
	return os.WriteFile(file, data, 0o644)
}

// fetchable is sources with local archives by copy: instead of file:, since
// dpkg in the new root can't look outside of it.
func fetchable(sources []aptSource) []aptSource {
	out := make([]aptSource, len(sources))
	for i, s := range sources {
		if dir, ok := localPath(s.URI); ok {
			s.URI = "copy:" + dir
		}
		out[i] = s
	}
	return out
}

// hookFile is the name of the hook among the job's files.
const hookFile = "setup-hook.sh"

// setupHook runs before anything is installed. It fetches the package lists, and
// takes what it can from the cache of packages.
//
//go:embed setup-hook.sh
var setupHook string

// mergedDirs is the directories of the root that are links into /usr on
// systems of the architecture: lib64 where the dynamic linker is there.
func mergedDirs(arch string) string {
	switch arch {
	case "amd64", "ppc64el", "mips64el", "loong64":
		return "bin sbin lib lib64"
	}
	return "bin sbin lib"
}

// install runs mmdebstrap.
func (s *staging) install(ctx context.Context) error {
	options, err := machineAcquire(ctx, s.Apt)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("apt.conf"), options, 0o600); err != nil {
		return err
	}
	watch := &aptErrors{to: s.job.Log()}
	merge := mergedDirs(s.Arch)
	if slices.Contains(s.Packages, "usrmerge") {
		merge = ""
	}
	env := hostEnv(
		"DEBIAN_FRONTEND=noninteractive", "TMPDIR="+s.path("tmp"), "B9_DEBS="+s.debs.dir, "B9_DIR="+s.dir, "B9_MERGE="+merge,
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", s.job.Epoch().Unix()),
	)
	mmdebstrap, err := tool.Find("mmdebstrap") // the one whose version is in the key
	if err != nil {
		return err
	}
	err = runContained(ctx, env, watch, s.command(mmdebstrap)...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return s.explain(watch, err)
	}
	return err
}

func (s *staging) command(mmdebstrap string) []string {
	argv := []string{
		mmdebstrap, "--mode=root", "--format=directory", "--verbose", "--variant=" + s.Variant, "--architectures=" + s.Arch,
		// Whether the architecture can run here has been checked, and the
		// sources say what they are signed with; packages and lists are kept
		// for finish, which knows what to do with them.
		"--skip=check/qemu", "--skip=check/signed-by", "--skip=essential/unlink", "--skip=cleanup/apt",
		"--aptopt=" + s.path("apt.conf"), "--setup-hook=" + s.path(hookFile),
	}
	for _, p := range s.Packages {
		argv = append(argv, "--include="+p)
	}
	return append(argv, s.Suite, s.root, s.path("b9.sources"))
}

// machineAcquire is how the machine's apt is told to download, in apt's own
// format. Hooks and everything else that concerns this machine stay out.
func machineAcquire(ctx context.Context, etc string) ([]byte, error) {
	out, err := hostOutput(ctx, tool.FindIn(hostPath, "apt-config"), "dump", "Acquire")
	if err != nil {
		return nil, fmt.Errorf("apt-config: %w", err)
	}
	var conf bytes.Buffer
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if value != `"";` && strings.HasPrefix(name, "Acquire::") && !ownAcquire.MatchString(name) {
			conf.WriteString(line)
		}
	}
	fmt.Fprintf(&conf, "Dir::Etc::netrc \"%s/auth.conf\";\nDir::Etc::netrcparts \"%s/auth.conf.d\";\n", etc, etc)
	return conf.Bytes(), nil
}

// ownAcquire are the options about what the machine keeps of an archive, not how
// it is reached.
var ownAcquire = regexp.MustCompile(`^Acquire::(IndexTargets|Changelogs|CompressionTypes|Languages|GzipIndexes|cdrom)`)

// aptErrors passes a log on and picks out what apt, dpkg and mmdebstrap call
// errors, the first few of them.
type aptErrors struct {
	to    io.Writer
	rest  []byte
	lines []string
}

// errorLine is how the lines begin that are picked out.
var errorLine = regexp.MustCompile(`^(E: |dpkg: error|dpkg-deb: error|Err:|tar: )`)

// maxErrors bounds the error lines that are kept, and their length in bytes.
const maxErrors, maxErrorLine = 20, 2000

// Write implements io.Writer.
func (a *aptErrors) Write(p []byte) (int, error) {
	n, err := a.to.Write(p)
	a.rest = append(a.rest, p[:n]...)
	for i := bytes.IndexAny(a.rest, "\n\r"); i >= 0; i = bytes.IndexAny(a.rest, "\n\r") {
		a.note(string(a.rest[:i]))
		a.rest = a.rest[i+1:]
	}
	if len(a.rest) > maxErrorLine {
		a.rest = a.rest[:0]
	}
	return n, err
}

func (a *aptErrors) note(line string) {
	line = strings.TrimSpace(line)
	if errorLine.MatchString(line) && len(a.lines) < maxErrors {
		a.lines = append(a.lines, strings.TrimPrefix(line, "E: "))
	}
}

// explain makes one sentence of what went wrong.
func (s *staging) explain(log *aptErrors, cause error) error {
	for _, line := range log.lines {
		if said := s.diagnose(line); said != "" {
			return errors.New(said)
		}
	}
	if len(log.lines) > 0 {
		return fmt.Errorf("mmdebstrap: %s (the log has the rest)", log.lines[0])
	}
	return fmt.Errorf("mmdebstrap: %w (the log says why)", cause)
}

// diagnose knows the usual errors; "" for another one.
func (s *staging) diagnose(line string) string {
	mirror := withoutPassword(s.sources[0].URI)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) })
	}
	switch {
	case has("Unable to locate package", "has no installation candidate", "Couldn't find any package"):
		return fmt.Sprintf("%s has no package for %s: %s: check its name, or add the component or suite that has it", s.Suite, s.Arch, line)
	case has("Version ", "Release ") && has("was not found"):
		return fmt.Sprintf("%s: %s: leave out the version, or pin the archive with snapshot=", s.Suite, line)
	case has("NO_PUBKEY", "is not signed", "couldn't be verified", "EXPKEYSIG"):
		return fmt.Sprintf("the signature of %s can't be checked: %s: give keyring= with the archive's keys", mirror, line)
	case has("does not have a Release file"):
		return fmt.Sprintf("unknown suite: %s: check its spelling, or give mirror=", line)
	case has("No space left on device"):
		return fmt.Sprintf("the disk with %s is full: %s: free space there, or run b9 cache gc", s.dir, line)
	case has("unexpected size", "Hash Sum mismatch"):
		return fmt.Sprintf("the archive is out of step with itself, as while it is being updated: %s: build again later, or leave a suite out with suites=", line)
	case has("Could not resolve", "Temporary failure resolving", "Could not connect", "Unable to connect", "Connection timed out", "Connection failed"):
		return (&unreachableError{mirror, line}).Error()
	}
	return ""
}
