package builtins

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/store"
)

func lxcExecOperation(d container.Defaults) lang.Operation {
	return lang.Operation{
		Name: "lxc_exec",
		Doc: `run a script in a container on disk images

Every image is mounted at its mount point, in a private copy; the script runs as
root, without a terminal and without anything to answer. The images as the
script left them are the outputs, one for each mount point, and so are the
writable shares: step["/"], step["/out"]. What is in /run and /tmp of the root
image when the script has ended is not taken. A script that fails leaves its images
as they are for b9 shell.

An ext4 or vfat image or a share that nothing was written to comes out as it was. Times that
the run has set become the build's (SOURCE_DATE_EPOCH, by default 1970).

Images hold ext4, xfs, btrfs, f2fs (where the kernel has it), vfat, iso9660, squashfs or
erofs. The last three are only read:
a script that writes there finds a read-only file system, and they come out as they
went in. Of a disk give a partition, with partition().

What a script reads from the network is not in the step's key. follows=[base]
adds the state of the archive that base was installed from, so that a script with
apt-get runs again when there is something new in it, such as a security update;
b9 build --rerun runs a step again whatever its key.

script is a list of commands for /bin/sh, run with set -e and printed as they
run: a string is a line of shell, a list of strings is one command whose words
are quoted. With another interpreter that is no shell the lines are its program
as they stand. Or script is a script file, which is run with the interpreter.

The script opens null, zero, full, random, urandom, tty and terminals, and no
other device, though it may make nodes of all. It finds container=b9 in its
environment. What it leaves in /etc/hosts, /etc/resolv.conf and
/usr/sbin/policy-rc.d is the image's, less the lines that b9 put there.`,
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "images", Type: lang.DictOf(lang.File), Required: true, Doc: `images by mount point; "/" is required`},
			{Name: "subvolume", Type: lang.String | lang.DictOf(lang.String), Doc: `what is mounted of a btrfs image, such as "@" of the root image, or {"/": "@", "/data": "vol"} by mount point (default: the file system's default subvolume)`},
			{Name: "script", Otherwise: `a command is an element of a list: script = [%[1]q]`, Type: lang.Value, Required: true, Doc: "commands (a list), or a script file (handle, label or path)"},
			{Name: "args", Type: lang.ListOf(lang.String), Doc: "arguments of the script"},
			{Name: "interpreter", Type: lang.ListOf(lang.String), Doc: `what runs the script (default ["/bin/sh"]; for a script file, the file's own #! line)`},
			{Name: "shares", Type: lang.DictOf(lang.File | lang.Tree | lang.WritableTree), Doc: "directories by mount point: read-only, or writable(...) to get them as outputs; or images, read-only, which are no outputs"},
			{Name: "env", Type: lang.DictOf(lang.String | lang.Int), Doc: "environment variables; their values are in the key, the record and what explains them: what is secret goes into secrets="},
			{Name: "secrets", Type: lang.DictOf(lang.SecretText), Doc: "files below /run/secrets by name, each a secret(): only while the script runs, and in nothing that is kept"},
			{Name: "ssh", Type: lang.Bool, Doc: "lend the ssh-agent that SSH_AUTH_SOCK names to the script, to sign with: a socket that the same variable names there"},
			{Name: "user", Type: lang.String, Doc: `who runs the script (default root): a name of the image's /etc/passwd, or "UID:GID"`},
			{Name: "cwd", Type: lang.String, Default: starlark.String("/"), Doc: "directory that the script starts in"},
			{Name: "arch", Type: lang.String, Default: starlark.String("x86_64"), Enum: container.Archs(), Doc: "the architecture of the images' programs, and what the machine says it is: i686 for 32-bit systems; an emulator runs what the kernel does not"},
			{Name: "hostname", Type: lang.String, Default: starlark.String("b9"), Doc: "host name in the container"},
			{Name: "network", Type: lang.String, Doc: `"nat" (a private network with a way out), "host" (this machine's), "none" (loopback only), or a network of libvirt, which may be written "libvirt:NAME" (default: container.network of the configuration, "nat")`},
			{Name: "memory", Type: lang.Size, Doc: "memory limit (default: container.memory); steps run at once only if the machine has the sum of their limits"},
			{Name: "cpus", Type: lang.Float | lang.Int, Doc: "processors it may use, such as 0.5 or 2 (default: container.cpus); they are shared out like memory"},
			{Name: "capabilities", Type: lang.ListOf(lang.String), Doc: `Linux capabilities beyond the usual ones, such as ["SYS_ADMIN"]`},
			{Name: "timeout", Type: lang.String | lang.Int, Doc: `how long the script may take from its first command, such as "90s", "10m", or in seconds (default: container.timeout)`},
			{Name: "attempts", Type: lang.Int, Default: starlark.MakeInt(1), Doc: "how often to run the script, each time on fresh copies, until it ends well"},
			{Name: "canonical", Type: lang.Bool, Doc: "lay the ext4 images out anew, as canonical() does: equal content is equal bytes, whatever the script did meanwhile"},
			{Name: "ignore_errors", Type: lang.Bool, Doc: "take the images even when the script fails"},
			{Name: "follows", Type: lang.ListOf(lang.File | lang.Tree), Doc: "steps made of what moves on by itself: the script runs again whenever the archives of a bootstrap() they come from have changed, even if they come out equal"},
		},
		Example: `lxc_exec(name = "web", images = {"/": ":base"}, script = ["apt-get update", "apt-get install -y nginx"])`,
		Make:    func(c *lang.Call) (lang.Step, error) { return lxcExecStep(c, d) },
	}
}

func lxcExecStep(c *lang.Call, d container.Defaults) (lang.Step, error) {
	l := &lxcExec{
		Interpreter: c.Strings("interpreter"), Args: c.Strings("args"), User: c.String("user"), Cwd: c.String("cwd"),
		Arch: c.String("arch"), Hostname: c.String("hostname"), IgnoreErrors: c.Bool("ignore_errors"), Canonical: c.Bool("canonical"), Env: envArg(c), Attempts: int(c.Int("attempts")),
		SSH: c.Bool("ssh"),
	}
	if l.Attempts < 1 {
		c.Errorf("attempts: %d is less than one", l.Attempts)
	}
	s := lang.Step{Action: l}
	l.addLimits(c, d)
	l.addImages(c, &s)
	l.addShares(c, &s)
	l.addSubvolumes(c)
	l.addScript(c, &s)
	l.addSecrets(c)
	for i, from := range c.Inputs("follows") {
		s.Inputs = append(s.Inputs, lang.StepInput{Role: followsRole + strconv.Itoa(i), From: from})
	}
	if !path.IsAbs(l.Cwd) {
		c.Errorf("cwd: %q is not an absolute path: the script starts in / when it is left out", l.Cwd)
	}
	if len(l.Hostname) > 63 || !hostnamePattern().MatchString(l.Hostname) {
		c.Errorf("hostname: %q is no host name: use letters, digits, - and dots, 63 bytes at most", l.Hostname)
	}
	// Which networks there are is asked for steps that are needed alone.
	network := c.String("network")
	s.Finish = func(k *lang.Linked) error {
		if err := checkNetwork(d, network); err != nil {
			return err
		}
		return l.finish(k)
	}
	return s, nil
}

var hostnamePattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)
})

// addLimits says what the script may use. What the call leaves open is decided
// here and not when the step runs, so that the key has what the script sees.
func (l *lxcExec) addLimits(c *lang.Call, d container.Defaults) {
	own := container.Spec{
		Network: c.String("network"), Memory: c.Size("memory"), CPUs: c.Number("cpus"),
		Capabilities: c.Strings("capabilities"), Timeout: c.Duration("timeout"),
	}
	if err := container.CheckCapabilities(own.Capabilities); err != nil {
		c.Errorf("capabilities: %w", err)
	}
	if err := container.CheckCapabilities(d.Capabilities); err != nil {
		c.Errorf("container.capabilities of the configuration: %w", err)
	}
	s := d.Fill(own)
	l.Network, l.Memory, l.CPUs, l.Capabilities, l.Timeout = s.Network, s.Memory, s.CPUs, s.Capabilities, s.Timeout
}

// checkNetwork refuses a network that there is not, of the call or else of the configuration.
func checkNetwork(d container.Defaults, network string) error {
	what := "network"
	if network == "" {
		what, network = "container.network of the configuration", d.Network
	}
	if err := d.CheckNetwork(network); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// finish decides the formats of the images, which shares are images, what is followed,
// and what secrets count by.
func (l *lxcExec) finish(k *lang.Linked) error {
	if err := follow(k); err != nil {
		return err
	}
	if err := l.linkSecrets(k); err != nil {
		return err
	}
	done := *l
	done.File = k.SourceName("script")
	done.Images = slices.Clone(l.Images)
	if file, ok := k.SourcePath("script"); ok {
		if err := checkText(k.SourceName("script"), file); err != nil {
			return err
		}
	}
	for i := range done.Images {
		format, err := image.InputFormat(k, "image "+done.Images[i].Target, "")
		if err != nil {
			return err
		}
		done.Images[i].Format = format
	}
	done.Shares = slices.Clone(l.Shares)
	for i := range done.Shares {
		if err := done.Shares[i].finish(k); err != nil {
			return err
		}
	}
	k.Action = &done
	return nil
}

// lxcExec runs a script in a container whose file systems are the images of
// the roles "image TARGET". Directories to share have the roles "share TARGET",
// a script file the role "script".
type lxcExec struct {
	Images       []mountPoint
	Shares       []shareMount
	Interpreter  []string // the script's path is added to it
	Script       string   // "" when it is the file of the role "script"
	Args         []string
	Env          map[string]string
	User         string
	Cwd          string
	Arch         string
	Hostname     string
	Network      string  // never empty: the defaults are in the key
	Memory       int64   // bytes
	CPUs         float64 // processors
	Capabilities []string
	IgnoreErrors bool
	Canonical    bool
	Secrets      []secretFile
	SSH          bool // that an agent is lent counts, and not which

	Timeout  time.Duration `key:"-"` // a script can't see it, and one that runs into it fails, which is not kept
	Lengths  []int         `key:"-"` // of each command in the script, in lines; they say where one failed
	File     string        `key:"-"` // that is the script, for messages; "" for none of the workspace
	Attempts int           `key:"-"` // one that ends well is the same, however often it was tried
}

// scriptDir is where the script appears in the container.
const scriptDir = "/.b9"

// Kind implements engine.Action. Under lxc_exec/1 images kept the times of their
// mounts and files those of the clock; under lxc_exec/3 those of xfs, btrfs and vfat did,
// and times that programs keep in whole seconds.
func (l *lxcExec) Kind() string { return "lxc_exec/4" }

// Run implements engine.Action.
func (l *lxcExec) Run(ctx context.Context, job *engine.Job) error {
	began, err := fileClock()
	if err != nil {
		return err
	}
	mounts, err := l.mounts(ctx, job)
	if err != nil {
		return err
	}
	backend, err := job.Backend(ctx)
	if err != nil {
		return err
	}
	spec := container.Spec{
		ID: containerID(job), Mounts: mounts, Hostname: l.Hostname,
		Argv: append(append(slices.Clone(l.Interpreter), scriptDir+"/script"), l.Args...),
		Env:  l.environment(job.Epoch()), Dir: l.Cwd, User: l.User, Arch: l.Arch,
		Capabilities: l.Capabilities, Network: l.Network, Memory: l.Memory, CPUs: l.CPUs, Timeout: l.Timeout,
		Empty: []string{"/run", "/tmp"}, EmptyAfterFailure: l.IgnoreErrors, SSH: l.SSH,
	}
	if spec.Secrets, err = l.readSecrets(job); err != nil {
		return err
	}
	set, clamped := searching(&spec), spec
	clamped.ClampSince, clamped.ClampTo = began, job.Epoch()
	res, err := l.attempt(ctx, job, backend, clamped)
	if err == nil {
		var changed []mountPoint
		if changed, err = l.settle(ctx, job, began, res.Untouched); err == nil {
			err = l.searchImages(ctx, job, changed, set)
		}
	}
	if err != nil {
		l.keepFailed(ctx, job, spec, res, err, set)
	}
	return err
}

// attempt runs the script until it ends well, at most as often as Attempts says.
// What kept it from running would keep it from running again, and a secret that it left
// would be left again.
func (l *lxcExec) attempt(ctx context.Context, job *engine.Job, backend container.Backend, spec container.Spec) (container.Result, error) {
	for n := 1; ; n++ {
		trace := &traced{}
		out := io.MultiWriter(job.Log(), trace) // one for both, which keeps the order of what is printed
		watch, env, err := l.watch(job)
		if err != nil {
			return container.Result{}, err
		}
		watched := spec
		watched.Env = append(slices.Clone(spec.Env), env...)
		res, err := backend.Run(ctx, watched, container.IO{Stdout: out, Stderr: out})
		watch.end()
		trace.bash, trace.status = watch, res.Code
		var start *container.StartError
		if errors.As(err, &start) && strings.HasPrefix(start.Command, scriptDir) {
			err = fmt.Errorf("the script can't be executed: %s", start.Cause)
		}
		if err != nil {
			res.Searched = start != nil // nothing ran that could have left a secret
			return res, err
		}
		if err = l.verdict(ctx, job, res, trace); err == nil {
			return res, l.leaked(res)
		}
		if ctx.Err() != nil || n >= l.Attempts {
			return res, err
		}
		job.Logf("b9: attempt %d of %d: %v: starting again from fresh copies", n, l.Attempts, err)
		if err := l.renew(ctx, job); err != nil {
			return res, err
		}
	}
}

// renew puts images and writable shares back as they came in.
func (l *lxcExec) renew(ctx context.Context, job *engine.Job) error {
	for _, m := range l.Images {
		if err := os.Remove(job.Output(m.Target)); err != nil {
			return err
		}
		if err := l.fork(ctx, job, m); err != nil {
			return err
		}
	}
	for _, s := range l.Shares {
		if !s.Writable {
			continue
		}
		if err := store.RemoveTree(job.Output(s.Target)); err != nil {
			return err
		}
		if _, err := shareSource(ctx, job, s); err != nil {
			return fmt.Errorf("share for %s: %w", s.Target, err)
		}
	}
	return nil
}

// containerID is unique among live containers: the scratch directory's name
// ends in a random number.
func containerID(job *engine.Job) string {
	name := filepath.Base(job.Dir())
	return "b9-" + name[strings.LastIndexByte(name, '-')+1:]
}

// DefaultEnv is the environment of every command in a container: enough for
// package tools to run without asking. It is part of what lxc_exec does: raise
// the number in its Kind with a change.
func DefaultEnv() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true",
	}
}

func (l *lxcExec) environment(epoch time.Time) []string {
	env := append(DefaultEnv(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()))
	for _, name := range slices.Sorted(maps.Keys(l.Env)) {
		env = append(env, name+"="+l.Env[name])
	}
	return env
}

// verdict turns the container's end into an error.
func (l *lxcExec) verdict(ctx context.Context, job *engine.Job, res container.Result, trace *traced) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	switch {
	case res.Reason == container.Exited && res.Code == 0:
		return nil
	case res.Reason == container.Exited && l.IgnoreErrors:
		job.Logf("b9: exit status %d ignored, as ignore_errors says", res.Code)
		return nil
	case res.Reason == container.Exited:
		return fmt.Errorf("the script ended with exit status %d%s%s", res.Code, l.at(" at ", job, trace), l.fullImages(job, trace))
	case res.Reason == container.TimedOut:
		limit := cmp.Or(l.Timeout, res.Duration.Round(time.Second))
		return fmt.Errorf("the script did not end within %s: raise timeout=, or container.timeout in b9.toml%s", limit, l.at("; it was at ", job, trace))
	case res.Reason == container.OutOfMemory:
		return fmt.Errorf("the script ran out of memory: raise memory=, or container.memory in b9.toml%s", l.at("; it was at ", job, trace))
	}
	return fmt.Errorf("the script ended early: %s", res)
}

func envArg(c *lang.Call) map[string]string {
	env := map[string]string{}
	for _, e := range c.Entries("env") {
		if e.Key == "" || strings.ContainsAny(e.Key, "=\x00") {
			c.Errorf("env: %q is no name of a variable", e.Key)
		}
		env[e.Key] = lang.Text(e.Value)
	}
	return env
}

// Tools implements engine.Tooled: what lays images out anew.
func (l *lxcExec) Tools() []engine.Tool {
	if !l.Canonical {
		return nil
	}
	return ext4.Tools()
}

var _ engine.Limited = (*lxcExec)(nil)

// Limits implements engine.Limited.
func (l *lxcExec) Limits() (memory int64, cpus float64) { return l.Memory, l.CPUs }

// Machine implements engine.OfMachine.
func (l *lxcExec) Machine() string { return l.Arch }
