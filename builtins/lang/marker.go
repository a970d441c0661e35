package lang

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/engine/container/secret"
)

// Operations whose value is a mark on an argument of another operation: secret() and
// writable().

// Secret is the operation secret().
func Secret() Operation {
	return Operation{
		Name: "secret",
		Doc: `a value that a script gets and nothing keeps, such as a token

The value is read when it is needed, from a variable of b9's environment or from
a file. It has 6 bytes to 64 KiB, not counting line ends after it. Its key has a
digest that is another one in every store, so that a new value runs the step
again and nobody can try out values on what is in a record; the step is neither
sent to other machines nor taken from them.

lxc_exec() has it as a file below /run/secrets, as it is, for the script's user
alone. The value is *** in the log, and in everything that is made of the log:
as a whole or a line of it, in base64 (from any byte on; in lines of 64 or 76
characters from the value's beginning on), in hexadecimal, and with the escapes of
URLs, JSON and shells. A script that leaves it in an image or a share, in one of these
forms, fails. What was compressed, encrypted or put together of pieces is not found.`,
		Params: []Param{
			{Name: "env", Type: String, Doc: "name of the variable"},
			{Name: "file", Type: String, Doc: `path of the file: absolute, below the home directory ("~/.netrc"), or below the package's directory; only its content counts`},
		},
		Example: `lxc_exec(name = "app", images = {"/": ":base"}, secrets = {"token": secret(env = "API_TOKEN")},
    script = ["wget --header=\"Authorization: Bearer $(cat /run/secrets/token)\" -O /srv/app.tar https://example.com/app.tar"])`,
		Value: func(c *Call) (starlark.Value, error) {
			v := &SecretValue{Origin: secret.Origin{Env: c.String("env"), File: c.String("file")}}
			switch o := &v.Origin; {
			case (o.Env == "") == (o.File == ""):
				c.Errorf("give env or file, one of them")
			case strings.ContainsAny(o.Env, "=\x00"):
				c.Errorf("env: %q is no name of a variable", o.Env)
			case strings.HasPrefix(o.File, "//") || strings.HasPrefix(o.File, ":") || strings.HasPrefix(o.File, "@"):
				c.Errorf("file: %q is a label: write a path, such as \"token.txt\" for a file beside the build file", o.File)
			case o.File != "" && !filepath.IsAbs(o.File) && !strings.HasPrefix(o.File, "~/"):
				full, err := c.m.below(o.File)
				if err != nil {
					c.Errorf("file: %w", err)
				}
				o.File = full
			}
			return v, nil
		},
	}
}

// below is the host's path of a file that the module names by a path relative to its
// package. Whether there is one is not looked at.
func (m *module) below(rel string) (string, error) {
	if m.library {
		return "", fmt.Errorf("a library has no files: %q", rel)
	}
	clean := strings.TrimPrefix(rel, "./")
	if err := checkSourcePath(clean); err != nil {
		return "", err
	}
	return filepath.Join(m.ws.root, filepath.FromSlash(path.Join(m.base.Pkg, clean))), nil
}

// SecretValue is what secret() returns: it says where a value comes from.
type SecretValue struct {
	Origin secret.Origin
}

// String implements starlark.Value.
func (s *SecretValue) String() string { return "secret()" }

// Type implements starlark.Value.
func (s *SecretValue) Type() string { return "secret" }

// Freeze implements starlark.Value; a marker never changes.
func (s *SecretValue) Freeze() {}

// Truth implements starlark.Value.
func (s *SecretValue) Truth() starlark.Bool { return true }

// Hash implements starlark.Value. All markers are alike.
func (s *SecretValue) Hash() (uint32, error) { return 2, nil }

// Writable is the operation writable().
func Writable() Operation {
	return Operation{
		Name: "writable",
		Doc: "marks a shared directory that a script may write to\n\nThe directory starts as a copy of src, or empty. " +
			"What the script left in it is an output of the step, selected by the directory's place in the container.",
		Positional: 1,
		Params: []Param{
			{Name: "src", Type: Tree, Doc: "the directory to start from; empty without it"},
		},
		Example: `build = lxc_exec(images = {"/": root}, shares = {"/out": writable()}, script = "make.sh")
group("binaries", targets = [build["/out"]])`,
		Value: func(c *Call) (starlark.Value, error) {
			return &WritableValue{Src: c.Input("src")}, nil
		},
	}
}

// WritableValue is what writable() returns: an operation that takes a
// [WritableTree] makes an output of the directory.
type WritableValue struct {
	Src Input // where it starts from; zero for empty
}

// String implements starlark.Value.
func (w *WritableValue) String() string { return "writable()" }

// Type implements starlark.Value.
func (w *WritableValue) Type() string { return "writable" }

// Freeze implements starlark.Value; a marker never changes.
func (w *WritableValue) Freeze() {}

// Truth implements starlark.Value.
func (w *WritableValue) Truth() starlark.Bool { return true }

// Hash implements starlark.Value. All markers are alike.
func (w *WritableValue) Hash() (uint32, error) { return 1, nil }
