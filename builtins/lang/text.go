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

// SourceText reads the input of that role, a source file, as text; known is false
// for anything a step makes. One of more than MaxText bytes is an error.
func (l *Linked) SourceText(role string) (text string, known bool, err error) {
	name, ok := l.SourcePath(role)
	if !ok {
		return "", false, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return "", true, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxText+1))
	if err == nil && len(data) > MaxText {
		err = fmt.Errorf("%s is larger than %d bytes", name, MaxText)
	}
	return string(data), true, err
}
