package debian

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
	"b9.build/b9/engine/tool"
)

// staging is a root file system while it is installed.
type staging struct {
	tooling
	job     *engine.Job
	given   []aptSource // the sources before the keyring of the call is put in
	debs    debCache
	started time.Time
	keys    []byte // the keyring of the call, nil for none
	keyring string // its path in the image
}

// newStaging writes what mmdebstrap is told into the job's directory.
func (b *bootstrap) newStaging(ctx context.Context, job *engine.Job, sources []aptSource) (*staging, error) {
	s := &staging{
		tooling: tooling{bootstrap: b, sources: slices.Clone(sources), dir: job.Dir(), root: filepath.Join(job.Dir(), "root"), log: job.Log()},
		given:   sources, job: job, debs: debCache{dir: filepath.Join(aptCache(job.World().Store), "debs")}, started: time.Now(),
	}
	if err := store.MkdirAll(s.debs.dir, 0o755); err != nil {
		return nil, err
	}
	if err := s.installKeyring(); err != nil {
		return nil, err
	}
	return s, errors.Join(s.prepare(ctx), os.WriteFile(s.path(hookFile), []byte(setupHook), 0o700))
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

// install runs mmdebstrap, again and again while what hinders it may pass.
// What was downloaded before is not downloaded again.
func (s *staging) install(ctx context.Context) error {
	env := []string{
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", s.job.Epoch().Unix()), "B9_DEBS=" + s.debs.dir, "B9_DIR=" + s.dir,
		"B9_MERGE=" + s.merged(), "B9_NO_USRMERGE=" + noUsrmerge, "B9_LISTS=" + s.listCache(s.job.World().Store, s.given),
	}
	return persist(ctx, s.log, func() error {
		return s.mmdebstrap(ctx, env, "--mode=root", "--setup-hook="+s.path(hookFile), "--skip=essential/unlink")
	}, func() error {
		return errors.Join(s.debs.adopt(ctx, filepath.Join(s.root, archives)), os.RemoveAll(s.root))
	})
}

// retries is how often apt tries a file again that it did not get for a reason
// that may pass, each time after a longer pause.
const retries = 3

// machineAcquire is how the machine's apt is told to download, in apt's own
// format, and where passwords are. Hooks and everything else that concerns this machine stay out.
func machineAcquire(ctx context.Context, logins string) ([]byte, error) {
	out, err := hostOutput(ctx, tool.FindIn(hostPath, "apt-config"), "dump", "Acquire")
	if err != nil {
		return nil, err
	}
	var conf bytes.Buffer
	fmt.Fprintf(&conf, "Acquire::Retries \"%d\";\n", retries) // unless the machine's says otherwise
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if value != `"";` && strings.HasPrefix(name, "Acquire::") && !ownAcquire().MatchString(name) {
			conf.WriteString(line)
		}
	}
	// Lists are fetched once: to patch those of a moment ago, as archives that change
	// all day offer, loses them where nothing has changed since.
	conf.WriteString("Acquire::PDiffs \"false\";\n")
	fmt.Fprintf(&conf, "Dir::Etc::netrc \"%s\";\nDir::Etc::netrcparts \"/nonexistent\";\n", logins)
	return conf.Bytes(), nil
}

// ownAcquire are the options about what the machine keeps of an archive, not how
// it is reached.
var ownAcquire = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^Acquire::(IndexTargets|Changelogs|CompressionTypes|Languages|GzipIndexes|cdrom)`)
})
