package build

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/size"
)

// surroundings are what run and shell give a command beside its images: what the
// command line says counts more than the step that failed and the configuration.
type surroundings struct {
	env     []string // NAME=VALUE, or NAME for what it is here
	user    string
	network string
	shares  []string // DIR:PATH, or DIR:PATH:ro
	memory  string
}

func (a *surroundings) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&a.env, "env", nil, "set an environment variable, as `NAME=VALUE`, or NAME for the value that it has here (may be repeated)")
	fl.StringVar(&a.user, "user", "", "run as `USER` of the image, or UID:GID (default: root)")
	fl.StringVar(&a.network, "network", "", "use the network `NAME`: nat, host, none, or one of libvirt (default: container.network; of a failed step, the step's)")
	fl.StringArrayVar(&a.shares, "share", nil, "mount a directory of this machine, as `DIR:PATH` or DIR:PATH:ro (may be repeated)")
	fl.StringVar(&a.memory, "memory", "", "limit the memory to `SIZE`, such as 512M (default: container.memory; of a failed step, the step's)")
}

// addTo puts them into a specification. What is wrong with them is a mistake in the
// command line.
func (a *surroundings) addTo(s *session.Session, spec *container.Spec) error {
	if err := s.ContainerDefaults().CheckNetwork(a.network); err != nil {
		return exit.Usagef("--network: %w", err)
	}
	if a.memory != "" {
		limit, err := size.Parse(a.memory)
		if err != nil || limit == 0 {
			return exit.Usagef("--memory %s: want a size above zero, such as 512M", a.memory)
		}
		spec.Memory = int64(limit)
	}
	for _, v := range a.env {
		name, value, given := strings.Cut(v, "=")
		if name == "" {
			return exit.Usagef("--env %s: want NAME=VALUE, or NAME", v)
		}
		if !given {
			var ok bool
			if value, ok = os.LookupEnv(name); !ok {
				return exit.Usagef("--env %s: it is not set here: give %[1]s=VALUE", name)
			}
		}
		spec.Env = append(spec.Env, name+"="+value)
	}
	for _, text := range a.shares {
		m, err := shared(s, text)
		if err != nil {
			return err
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	spec.User, spec.Network = cmp.Or(a.user, spec.User), cmp.Or(a.network, spec.Network)
	return nil
}

// shared is the mount that a value of --share asks for.
func shared(s *session.Session, text string) (container.Mount, error) {
	rest, readOnly := strings.CutSuffix(text, ":ro")
	dir, at, ok := strings.Cut(rest, ":")
	if !ok || dir == "" || !path.IsAbs(at) || path.Clean(at) == "/" {
		return container.Mount{}, exit.Usagef("--share %s: want DIR:PATH or DIR:PATH:ro, with the absolute path of a mount point", text)
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(s.Dir, dir)
	}
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is no directory", dir)
	}
	if err != nil {
		return container.Mount{}, exit.Usagef("--share %s: %w", text, err)
	}
	return container.Mount{Source: dir, Target: path.Clean(at), Kind: container.Dir, ReadOnly: readOnly}, nil
}
