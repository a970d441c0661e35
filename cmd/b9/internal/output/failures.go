package output

import (
	"errors"
	"strings"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
)

// The form of an error, as text:
//
//	PLACE: OPERATION(): CAUSE[: WAY OUT]
//	b9: CAUSE[: WAY OUT]
//
// the first where it has a position in a build file, the second elsewhere. The
// calls that led there follow, a line each. As JSON it is a [Failure].

// Text is an error as it is printed on standard error. Every mistake of a build
// file begins a line, and so does every part of a joined error.
func Text(err error) string {
	var b strings.Builder
	for _, part := range parts(err) {
		mistakes, ok := part.(lang.Errors)
		if step, is := part.(*engine.StepError); is && step.Node.Where().File != "" {
			b.WriteString(part.Error() + "\n")
			continue
		}
		if !ok {
			b.WriteString("b9: " + part.Error() + "\n")
			continue
		}
		lines, at := strings.SplitAfter(mistakes.Error()+"\n", "\n"), 0
		for _, m := range mistakes {
			if m.Pos.File == "" && at < len(lines)-1 {
				lines[at] = "b9: " + lines[at]
			}
			at += 1 + strings.Count(m.Error(), "\n")
		}
		b.WriteString(strings.Join(lines, ""))
	}
	return b.String()
}

// parts splits joined errors, and unwraps errors that say no more than what they
// wrap. The mistakes of build files stay together.
func parts(err error) []error {
	if _, ok := err.(lang.Errors); ok || err == nil {
		return []error{err}
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && err.Error() == errors.Join(joined.Unwrap()...).Error() {
		var all []error
		for _, one := range joined.Unwrap() {
			all = append(all, parts(one)...)
		}
		return all
	}
	if in := errors.Unwrap(err); in != nil && in.Error() == err.Error() {
		return parts(in)
	}
	return []error{err}
}

// Failures splits an error of a command: into the mistakes of build
// files, and the steps that failed.
func Failures(err error) []Failure {
	var all []Failure
	for _, part := range parts(err) {
		var step *engine.StepError
		var mistake *engine.PositionError
		mistakes, ok := part.(lang.Errors)
		switch {
		case part == nil:
		case ok:
			for _, m := range mistakes {
				all = append(all, ofMistake(m))
			}
		case errors.As(part, &step):
			all = append(all, ofStep(step))
		case errors.As(part, &mistake) && mistake.Error() == part.Error():
			all = append(all, Failure{Place: (*Place)(&mistake.Position), Cause: mistake.Msg})
		default:
			all = append(all, Failure{Cause: part.Error()})
		}
	}
	return all
}

func ofMistake(m *lang.Error) Failure {
	f := Failure{Label: m.Label, Place: PlaceOf(m.Pos), Cause: m.Msg}
	for i := 1; i < len(m.Stack); i++ {
		f.CalledFrom = append(f.CalledFrom, Place(m.Stack[i].Pos))
	}
	for _, call := range m.Within {
		f.Within = append(f.Within, Place(call.Pos))
	}
	return f
}

func ofStep(s *engine.StepError) Failure {
	f := Failure{Label: s.Node.Label(), Builtin: s.Node.Builtin(), Place: PlaceOf(s.Node.Where()), Cause: s.Cause(), Log: s.Log, Kept: s.Kept}
	for i, at := range s.Node.Stack() {
		if i > 0 {
			f.CalledFrom = append(f.CalledFrom, Place(at))
		}
	}
	return f
}
