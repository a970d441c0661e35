package lang

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"go.starlark.net/starlark"

	"b9.build/b9/engine"
)

// MaxText bounds a file that is held in memory as text, in bytes.
const MaxText = 16 << 20

// Text is a value as text: a string as it is, true or false for a bool, and
// anything else as a build file writes it.
func Text(v starlark.Value) string {
	switch v := v.(type) {
	case starlark.String:
		return string(v)
	case starlark.Bool:
		return strconv.FormatBool(bool(v))
	}
	return v.String()
}

// InputText reads the input of that role as text, in an action's Run. One of more
// than MaxText bytes is an error.
func InputText(job *engine.Job, role string) (string, error) {
	data, err := job.Input(role).ReadAll(MaxText)
	if err != nil {
		return "", fmt.Errorf("%s: %w", role, err)
	}
	return string(data), nil
}

// ReadText reads a file of the host as text. One of more than MaxText bytes is
// an error.
func ReadText(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxText+1))
	if err != nil {
		return "", err
	}
	if len(data) > MaxText {
		return "", fmt.Errorf("%s is larger than %d bytes", name, MaxText)
	}
	return string(data), nil
}
