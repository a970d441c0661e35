// Package config reads the settings of b9: one schema, filled from layers.
// A later layer wins: the defaults, the user's file, the workspace's b9.toml,
// the environment, flags. It remembers where each value came from.
//
// It does not look for files beyond [UserFile], and does not act on what it
// reads: the caller finds the workspace and passes the layers to [Load].
//
// The schema is the [Config] struct: the tags of its fields hold the key, the
// default, the permitted range and the documentation. A setting is added by
// adding a field.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"b9.build/b9/engine/internal/position"
	"b9.build/b9/engine/near"
	"b9.build/b9/engine/size"
)

// Config is the result of all layers. Each field's doc tag says what it means.
type Config struct {
	Build     Build     `toml:"build"`
	Results   Results   `toml:"results"`
	Store     Store     `toml:"store"`
	Container Container `toml:"container"`
	VM        VM        `toml:"vm"`
	Libvirt   Libvirt   `toml:"libvirt"`
	Bootstrap Bootstrap `toml:"bootstrap"`
	FS        FS        `toml:"fs"`
	Shared    Shared    `toml:"shared"`

	// Repositories are the locations of repositories of shared images, by
	// name: the table [repositories]. A directory is absolute here.
	Repositories map[string]string

	// Sources are directories outside of the workspace that build files may
	// read, by the names of their labels: the table [sources]. They are absolute here.
	Sources map[string]string

	// Options are the defaults for -D in this workspace: the table [options].
	Options map[string]string

	origins map[string]source // by key; a key that is not there has its default
}

// Build says how steps are run and where results go.
type Build struct {
	Jobs      int    `toml:"jobs" default:"0" min:"0" max:"4096" doc:"how many steps run at once; 0 means as many as there are processors"`
	KeepGoing bool   `toml:"keep_going" default:"false" doc:"after a failure, go on with the steps that do not depend on it"`
	Out       string `toml:"out" default:"b9-out" doc:"the directory that results are placed in, relative to the workspace root; b9.toml can only name one below it"`
	Verbosity string `toml:"verbosity" default:"normal" enum:"quiet,normal,verbose,debug" doc:"how much is shown: quiet (only failures), normal, verbose (the output of every step), debug (also times and call stacks)"`
}

// Results says how results are placed.
type Results struct {
	Place string `toml:"place" default:"copy" enum:"copy,link,none" doc:"how results get into build.out: copy (sharing blocks where the file system can), link (symbolic links to files in the store, which nothing may write to), none (they only stay in the store)"`
}

// Store says where finished steps are kept, and for how long.
type Store struct {
	Dir     string        `toml:"dir" doc:"the directory that finished steps are kept in; a relative one counts from the directory of the file that sets it"`
	MaxSize size.Limit    `toml:"max_size" default:"50%" doc:"collection takes the longest unused results until this much is left: a size, or a share of what the store holds and its file system has free; 0 means no limit"`
	MaxAge  size.Duration `toml:"max_age" default:"30d" doc:"collection takes results that were not used for this long; 0 means no limit"`
}

// Container holds the defaults for steps that run in containers.
type Container struct {
	Backend      string        `toml:"backend" default:"auto" enum:"auto,embedded,libvirt-lxc" doc:"what runs containers; auto means the embedded one"`
	Memory       size.Bytes    `toml:"memory" default:"0B" least:"16MiB" doc:"the most memory a container may use; 0 means no limit"`
	CPUs         float64       `toml:"cpus" default:"0" min:"0" max:"4096" doc:"the most processors a container may keep busy, such as 1.5; 0 means no limit"`
	Capabilities []string      `toml:"capabilities" doc:"capabilities given to containers beside the default set, such as sys_admin"`
	Network      string        `toml:"network" default:"nat" doc:"nat (a private network with a way out), host (the network of this machine), none (loopback only), or the name of a libvirt network"`
	Timeout      size.Duration `toml:"timeout" default:"0" doc:"a script that runs longer is stopped; 0 means no limit"`

	TimeoutFactor float64 `toml:"timeout_factor" default:"1" min:"0.01" max:"1000" doc:"every time limit of a script, its own or container.timeout, is multiplied by this: more than 1 on a machine that is slower"`
}

// VM says how machines are tested.
type VM struct {
	Timeout       size.Duration `toml:"timeout" default:"10m" doc:"a check of boot_test() that takes longer fails; the time in which the machine waits for a processor of this host does not count"`
	TimeoutFactor float64       `toml:"timeout_factor" default:"1" min:"0.01" max:"1000" doc:"every time limit of a check of boot_test(), its own or vm.timeout, is multiplied by this: more than 1 on a machine that is slower"`
}

// Libvirt says how the libvirt-lxc backend reaches libvirt.
type Libvirt struct {
	URI      string `toml:"uri" default:"lxc:///" doc:"the connection of the libvirt-lxc backend"`
	Emulator string `toml:"emulator" doc:"the absolute path of libvirt's container controller; empty means libvirt's own choice"`
	Network  string `toml:"network" doc:"the libvirt network that containers join that ask for nat or host; empty means none"`
}

// Bootstrap says where Debian root file systems come from.
type Bootstrap struct {
	Mirror  string        `toml:"mirror" doc:"the Debian archive; empty means what this machine's own apt uses"`
	Refresh size.Duration `toml:"refresh" default:"10m" doc:"for how long a Release file that was looked at is taken to be current"`
}

// FS holds the defaults for new file systems.
type FS struct {
	Ext4Features []string `toml:"ext4_features" doc:"features of new ext4 file systems, as mke2fs -O takes them, such as 64bit or ^has_journal"`
}

// Shared says where shared images and finished steps of others come from.
type Shared struct {
	Repository string `toml:"repository" doc:"the repository that shared() and the commands mean when they name none; empty means the only one there is, else local"`
	Cache      string `toml:"cache" doc:"the repository in which finished steps are looked up; empty means none"`
	Keep       int    `toml:"keep" default:"2" min:"0" max:"1000000" doc:"how many versions of a shared image this machine keeps: pull and push of one take older ones out here, and clean-local those of all; 0 means all"`
	CachePush  bool   `toml:"cache_push" default:"false" doc:"publish finished steps in shared.cache"`
}

// Layers is where settings come from. What is empty is skipped.
type Layers struct {
	UserFile      string   // need not exist
	WorkspaceFile string   // must exist, may be empty
	Env           []string // NAME=value, as os.Environ returns it
	Flags         []string // key=value, as for -c

	Location func(location string) error // says what is wrong with that of a repository; may be nil
}

// UserFile is the path of the user's own file,
// $XDG_CONFIG_HOME/b9/config.toml, or "" where there is no home directory.
func UserFile() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "b9", "config.toml")
}

// Load merges the layers. Lists are replaced, options, repositories and sources are merged by name.
//
// The environment variable of container.memory is B9_CONTAINER_MEMORY, and
// an empty one counts as not set; B9_OPTIONS_name sets an option,
// B9_REPOSITORIES_name a repository, and B9_SOURCES_name a source. Variables
// beginning with B9_ that resemble no setting are ignored. The elements of a
// list are separated by commas there and in flags.
//
// The error joins every mistake of every layer, each with where it stands.
func Load(l Layers) (*Config, error) {
	d := newLoader()
	d.location = l.Location
	d.file(l.UserFile, false)
	d.file(l.WorkspaceFile, true)
	d.environment(l.Env)
	d.flags(l.Flags)
	d.finish()
	if err := errors.Join(d.errs...); err != nil {
		return nil, err
	}
	return d.config, nil
}

// loader is one call of Load.
type loader struct {
	config *Config
	schema []field
	byKey  map[string]field
	keys   []string
	errs   []error

	location func(string) error // of Layers
}

func newLoader() *loader {
	d := &loader{
		config: &Config{Options: map[string]string{}, Repositories: map[string]string{}, Sources: map[string]string{}, origins: map[string]source{}},
		schema: schema(),
		byKey:  map[string]field{},
	}
	for _, f := range d.schema {
		d.byKey[f.key] = f
		d.keys = append(d.keys, f.key)
		if f.def == "" {
			continue
		}
		if err := f.set(d.config, text(f.def)); err != nil {
			panic(fmt.Sprintf("config: the default of %s: %v", f.key, err))
		}
	}
	return d
}

// source is where a value came from.
type source struct {
	origin string            // as Settings shows it
	at     position.Position // as errors show it; of the environment and of flags, which have no lines, the origin as File
	dir    string            // that relative paths count from

	workspace bool // the file came with the workspace
}

func (d *loader) fail(p source, format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf("%s: %w", p.at, fmt.Errorf(format, args...)))
}

// assign sets one key to a value: text, or what a TOML file holds.
func (d *loader) assign(p source, key string, value any) {
	if name, ok := strings.CutPrefix(key, optionsPrefix); ok {
		d.option(p, name, value)
		return
	}
	if name, ok := strings.CutPrefix(key, repositoriesPrefix); ok {
		d.repository(p, name, value)
		return
	}
	if name, ok := strings.CutPrefix(key, sourcesPrefix); ok {
		d.sources(p, name, value)
		return
	}
	f, ok := d.byKey[key]
	switch {
	case ok:
		d.setting(p, f, value)
	case d.isSection(key):
		d.fail(p, "%s is a section, not a setting%s", key, near.Hint(key, d.inSection(key)))
	default:
		d.fail(p, "unknown setting %q%s", key, near.Hint(key, d.keys))
	}
}

func (d *loader) setting(p source, f field, value any) {
	before := d.config.Build.Out
	if err := f.set(d.config, value); err != nil {
		d.fail(p, "%s: %w", f.key, err)
		return
	}
	if out := d.config.Build.Out; f.key == "build.out" && p.workspace && !filepath.IsLocal(out) {
		d.config.Build.Out = before
		d.fail(p, "build.out: %q is not below the workspace root: use a relative path such as %q", out, f.def)
		return
	}
	if f.key == "store.dir" {
		d.config.Store.Dir = resolve(p.dir, d.config.Store.Dir)
	}
	d.config.origins[f.key] = p
}

const optionsPrefix = "options."

func (d *loader) option(p source, name string, value any) {
	key := optionsPrefix + name
	if name == "" || strings.ContainsAny(name, ". =") {
		d.fail(p, "%s: %q cannot be the name of an option: use letters, digits and _", key, name)
		return
	}
	s, err := optionText(value)
	if err != nil {
		d.fail(p, "%s: %w", key, err)
		return
	}
	d.config.Options[name] = s
	d.config.origins[key] = p
}

func (d *loader) isSection(key string) bool {
	return slices.Contains(tables(), key) || len(d.inSection(key)) > 0
}

// tables are the sections whose keys are names that people choose.
func tables() []string { return []string{"options", "repositories", "sources"} }

// inSection lists the keys of one section.
func (d *loader) inSection(name string) []string {
	var keys []string
	for _, k := range d.keys {
		if strings.HasPrefix(k, name+".") {
			keys = append(keys, k)
		}
	}
	return keys
}

const envPrefix = "B9_"

func (d *loader) environment(env []string) {
	names := make(map[string]string, len(d.keys))
	var all []string
	for _, k := range d.keys {
		n := strings.ToUpper(strings.ReplaceAll(k, ".", "_"))
		names[n] = k
		all = append(all, n)
	}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		short, ours := strings.CutPrefix(name, envPrefix)
		if !ours || value == "" {
			continue
		}
		p := source{origin: "environment " + name, at: position.Position{File: "environment " + name}}
		if option, ok := strings.CutPrefix(short, "OPTIONS_"); ok {
			d.option(p, option, text(value))
		} else if repository, ok := strings.CutPrefix(short, "REPOSITORIES_"); ok {
			d.repository(p, repository, text(value))
		} else if name, ok := strings.CutPrefix(short, "SOURCES_"); ok {
			d.sources(p, name, text(value))
		} else if key, ok := names[short]; ok {
			d.assign(p, key, text(value))
		} else if best := near.Match(short, all); best != "" {
			d.fail(p, "no setting has this name: did you mean %q?", envPrefix+best)
		}
	}
}

func (d *loader) flags(flags []string) {
	for _, kv := range flags {
		p := source{origin: "flag -c", at: position.Position{File: "flag -c " + kv}}
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			d.fail(p, "wants KEY=VALUE, such as -c container.memory=2G")
			continue
		}
		if strings.HasPrefix(key, repositoriesPrefix) {
			p.at.File = p.origin // a wrong location may have a password
		}
		d.assign(p, key, text(value))
	}
}

// finish checks what no single layer decides.
func (d *loader) finish() {
	if d.config.Store.Dir == "" {
		d.errs = append(d.errs, errors.New("store.dir: there is no home directory to keep finished steps in: set HOME or -c store.dir=DIR"))
	}
	d.checkRepositories()
}

// resolve makes path absolute: ~ is the home directory, and a relative path
// counts from dir, or from the current directory when dir is empty.
func resolve(dir, path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
