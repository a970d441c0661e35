package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"b9.build/b9/engine"
	"b9.build/b9/engine/container/secret"
	"b9.build/b9/engine/store"
	"b9.build/b9/engine/tool"
)

// aptHelper downloads with all that apt is configured to: proxies, passwords,
// certificates, every kind of URI.
const aptHelper = "/usr/lib/apt/apt-helper"

// freshAnswer is how old an answer may be when the step is about to run.
const freshAnswer = time.Minute

// answer is what an archive last said about its state.
type answer struct {
	Asked time.Time
	State string // hexadecimal
}

// aptCache is the directory, below the store's, of what bootstraps share. All
// of it may be deleted at any time.
func aptCache(st *store.Store) string { return filepath.Join(st.Dir(), "cache", "apt") }

// archiveState is the state of the package lists of the sources: the last
// answer when it is younger than limit, else what the archive says now, else,
// when it can't be asked, the last answer whatever its age.
func (b *bootstrap) archiveState(ctx context.Context, w *engine.World, sources []aptSource, limit time.Duration) ([]byte, error) {
	file := filepath.Join(aptCache(w.Store), b.answerName(sources))
	last, ok := readAnswer(file)
	if age := time.Since(last.Asked); ok && (w.Offline || age >= 0 && age < limit) {
		return hex.DecodeString(last.State)
	}
	if w.Offline {
		return nil, fmt.Errorf("the state of %s is not known and b9 is offline: build once with network, or pin it with snapshot=", withoutPassword(sources[0].URI))
	}
	state, err := askArchive(ctx, w.Store, b.Apt, sources, b.Arch, ok)
	if err == nil {
		writeAnswer(file, answer{Asked: time.Now(), State: hex.EncodeToString(state)})
		return state, nil
	}
	var down *unreachableError
	if ok && errors.As(err, &down) {
		return hex.DecodeString(last.State)
	}
	return nil, err
}

// answerName names the file of the answer for these sources.
func (b *bootstrap) answerName(sources []aptSource) string {
	sum := sha256.Sum256([]byte(b.Arch + "\n" + renderSources(publicSources(sources))))
	return fmt.Sprintf("release-%x.json", sum[:16])
}

// readAnswer reads an answer; a damaged one is as good as none.
func readAnswer(file string) (answer, bool) {
	var a answer
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &a) != nil {
		return answer{}, false
	}
	sum, err := hex.DecodeString(a.State)
	return a, err == nil && len(sum) == sha256.Size
}

// writeAnswer keeps an answer. Losing it costs one question, so that errors
// and crashes do not matter, but nobody may see half of it.
func writeAnswer(file string, a answer) {
	data, err := json.Marshal(a)
	if err != nil || store.MkdirAll(filepath.Dir(file), 0o755) != nil {
		return
	}
	renameio.WriteFile(file, data, 0o644, renameio.WithTempDir(filepath.Dir(file)))
}

// unreachableError says that an archive could not be asked.
type unreachableError struct{ uri, reason string }

func (e *unreachableError) Error() string {
	return fmt.Sprintf("archive %s can't be reached (%s): check the network, or give mirror=", e.uri, e.reason)
}

// askArchive fetches the Release files of all sources at once and digests
// what counts of them. Where there is an older answer it gives up early.
func askArchive(ctx context.Context, st *store.Store, etc string, sources []aptSource, arch string, older bool) (state []byte, err error) {
	scratch, err := st.Scratch("apt-release")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	logins := filepath.Join(scratch.Dir(), loginsFile)
	access, err := writeLogins(ctx, logins, etc, sources)
	if err != nil {
		return nil, err
	}
	sources = publicSources(sources)
	asks := &releaseAsks{logins: logins, masked: access.masked(os.Environ()), older: older}
	for i, s := range sources {
		asks.list = append(asks.list, releaseAsk{source: &sources[i], base: releaseBase(&s), file: filepath.Join(scratch.Dir(), fmt.Sprint(i))})
	}
	// Archives without InRelease have Release, signed beside it.
	for _, name := range []string{"InRelease", "Release"} {
		fetch := func() error { return asks.fetch(ctx, name) }
		if older {
			err = fetch()
		} else {
			err = persist(ctx, io.Discard, fetch, func() error { return nil })
		}
		if err != nil {
			return nil, err
		}
	}
	h := sha256.New()
	for _, a := range asks.list {
		sum, err := a.state(arch)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(h, "%s %s %x\n", a.base, strings.Join(a.source.Components, " "), sum)
	}
	return h.Sum(nil), nil
}

// releaseAsk is the question for one Release file.
type releaseAsk struct {
	source *aptSource
	base   string // URI of its directory, without the last slash
	file   string // where it is
}

// loginsFile is the name of the file of passwords among those that apt is given.
const loginsFile = "auth.conf"

// writeLogins writes into a file what lets apt into the archives of sources, as the
// machine's apt at etc has it, so that it stands in no command line, and not where the
// addresses are that apt and mmdebstrap print, and copy.
func writeLogins(ctx context.Context, file, etc string, sources []aptSource) (*Access, error) {
	var mirrors []string
	for _, s := range sources {
		mirrors = append(mirrors, s.URI)
	}
	access, err := accessIn(ctx, etc, mirrors)
	if err != nil {
		return nil, err
	}
	return access, os.WriteFile(file, access.Logins, 0o600)
}

// releaseBase is the URI of the directory that a suite's Release file is in.
func releaseBase(s *aptSource) string {
	uri := strings.TrimRight(s.URI, "/") + "/"
	if strings.HasSuffix(s.Suite, "/") {
		return strings.TrimRight(uri+strings.TrimPrefix(s.Suite, "./"), "/")
	}
	return uri + "dists/" + s.Suite
}

// releaseAsks are the questions for those of several sources.
type releaseAsks struct {
	list   []releaseAsk
	logins string      // file of the passwords
	masked *secret.Set // what apt's words hold of them
	older  bool        // there is an older answer
}

// fetch gets the files that are not there yet; those of this machine are
// read where they are. What the archive does not have is no error.
func (r *releaseAsks) fetch(ctx context.Context, name string) error {
	args := []string{"-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=0", "-o", "Dir::Etc::netrc=" + r.logins, "-o", "Dir::Etc::netrcparts=/nonexistent"}
	if r.older {
		args = append(args, "-o", "Acquire::http::Timeout=5", "-o", "Acquire::https::Timeout=5")
	}
	var files []string
	for i := range r.list {
		a := &r.list[i]
		dir, local := localPath(a.base)
		switch {
		case fileExists(a.file):
		case local:
			a.file = filepath.Join(dir, name)
		default:
			files = append(files, a.base+"/"+name, a.file, "")
		}
	}
	if len(files) == 0 {
		return nil
	}
	out, err := hostOutput(ctx, aptHelper, slices.Concat(args, []string{"download-file"}, files)...)
	if err != nil && !errors.As(err, new(*tool.Failure)) {
		return err
	}
	return sortFailures(r.list, name, r.masked.Masked(string(out)))
}

// sortFailures notes what apt-helper said about files that it did not get,
// and makes an error of an archive that does not answer.
func sortFailures(asks []releaseAsk, name, out string) error {
	for i := range asks {
		a := &asks[i]
		if fileExists(a.file) {
			continue
		}
		reason := failureReason(out, a.base+"/"+name)
		if _, local := localPath(a.base); !local && !notThere(reason) {
			down := error(&unreachableError{withoutPassword(a.source.URI), reason})
			if passingFailure().MatchString(reason) {
				down = &passingError{down}
			}
			return down
		}
	}
	return nil
}

// failureReason finds why a download failed among apt-helper's messages. The
// URI there has lost its password.
func failureReason(out, uri string) string {
	_, path, _ := strings.Cut(uri, "://")
	path = path[strings.IndexByte(path, '/')+1:]
	for line := range strings.Lines(out) {
		_, rest, ok := strings.Cut(line, "E: Failed to fetch ")
		if !ok {
			continue
		}
		words := strings.Fields(rest)
		if len(words) > 1 && strings.HasSuffix(words[0], "/"+path) {
			return strings.Join(words[1:], " ")
		}
	}
	return "apt-helper does not say why"
}

// notThere reports whether the archive answered that it has no such file.
func notThere(reason string) bool {
	return strings.HasPrefix(reason, "404") || strings.HasPrefix(reason, "410") || strings.Contains(reason, "File not found")
}

func withoutPassword(uri string) string {
	bare, _ := withoutUsers([]string{uri})
	return bare[0]
}

// state digests the answer to one question.
func (a *releaseAsk) state(arch string) ([]byte, error) {
	where := fmt.Sprintf("suite %s at %s", a.source.Suite, withoutPassword(a.source.URI))
	f, err := os.Open(a.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("unknown suite %q: %s has no Release file for it: check its spelling, or give mirror=", a.source.Suite, withoutPassword(a.source.URI))
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rel, err := parseRelease(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	sum, err := rel.state(a.source, arch)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return sum, nil
}

// hashKeyrings adds the content of the key files that end up in the image.
func hashKeyrings(h io.Writer, given string, sources []aptSource) error {
	files := imageKeyrings(sources)
	if given != "" {
		files = []string{given}
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return keyringError(path, err)
		}
		fmt.Fprintf(h, "%s %x\n", path, sha256.Sum256(data))
	}
	return nil
}

func keyringError(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keyring %s does not exist: install the package that has it, or give keyring=", path)
	}
	return fmt.Errorf("keyring: %w", err)
}

// hostOutput runs a short program of the host and returns all it printed. The
// error of one that refuses is a [*tool.Failure].
func hostOutput(ctx context.Context, name string, args ...string) ([]byte, error) {
	path, err := tool.Find(name)
	if err != nil {
		name = filepath.Base(name)
		return nil, fmt.Errorf("%s is not there: install the Debian package %s", name, tool.Package(name))
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = hostEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	var out []byte
	err = onOwnThread(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out, &tool.Failure{Program: filepath.Base(name), Code: exit.ExitCode(), Output: string(out)}
	}
	return out, err
}

// hostPath is the PATH of apt and mmdebstrap, and of what they call.
const hostPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// hostEnv is the environment of apt and mmdebstrap: nothing of the user's but
// the network proxies.
func hostEnv(more ...string) []string {
	env := []string{"PATH=" + hostPath, "HOME=/root", "LC_ALL=C.UTF-8"}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if IsProxy(name) {
			env = append(env, kv)
		}
	}
	return append(env, more...)
}
