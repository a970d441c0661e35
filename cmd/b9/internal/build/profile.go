package build

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"context"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/history"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/page"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/cmd/b9/internal/timeline"
	"b9.build/b9/engine/config"
)

// profileForms are the values of --format.
var profileForms = [...]string{"text", "trace", "html"}

// Profile is `b9 profile`.
func Profile(p *session.Program) *cobra.Command {
	form := "text"
	cmd := &cobra.Command{
		Use:  "profile [BUILD]",
		Args: command.OneAtMost("build"),
		RunE: p.With(func(_ context.Context, s *session.Session, args []string) error {
			b, err := loggedBuild(s, args)
			if err != nil {
				return err
			}
			doc := profileOf(b)
			if s.JSON {
				return s.Print(doc)
			}
			var text bytes.Buffer
			switch form {
			case "text":
				text.WriteString(profileText(doc))
			case "trace":
				err = timeline.Trace(&text, doc)
			case "html":
				err = page.Timeline(&text, doc, printedBy(b))
			}
			if err != nil {
				return err
			}
			_, err = io.Copy(s.Out, &text)
			return err
		}, func(*config.Config) error {
			return command.Choice("format", form, profileForms[:])
		}),
	}
	cmd.Flags().StringVar(&form, "format", form, "print the profile as `FORM`: "+strings.Join(profileForms[:], ", "))
	return cmd
}

// loggedBuild is the build that is asked for, the last by default, and why its steps ran.
func loggedBuild(s *session.Session, args []string) (*history.Build, error) {
	st, err := s.Store()
	if err != nil {
		return nil, err
	}
	id := ""
	if len(args) > 0 {
		id = args[0]
	} else if id, err = lastBuild(s, true); err != nil {
		return nil, err
	}
	b, err := history.In(st.Dir()).Find(id)
	if err != nil {
		return nil, err
	}
	for _, step := range b.Steps {
		if err := why(st, step); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// profileOf is the profile of a build.
func profileOf(b *history.Build) output.Profile {
	p := output.Profile{Build: b.BuildRun, Steps: []output.ProfileStep{}}
	path, length := b.Paths.Critical()
	p.Critical = length.Seconds()
	for _, s := range b.Steps {
		p.Steps = append(p.Steps, output.ProfileStep{StepRun: s.StepRun, Critical: slices.Contains(path, s.Label), Inputs: s.Inputs})
	}
	timeline.Fill(&p)
	return p
}

// pageLines is how many lines of what a step printed its page shows.
const pageLines = 40

// printedBy returns the last lines that a step printed.
func printedBy(b *history.Build) func(label string) []string {
	return func(label string) []string {
		for _, s := range b.Steps {
			if s.Label == label {
				lines := make([]string, 0, pageLines)
				for _, line := range s.Output[max(0, len(s.Output)-pageLines):] {
					lines = append(lines, display.Clean(line))
				}
				return lines
			}
		}
		return nil
	}
}

// slowest is how many of the slowest steps are told.
const slowest = 10

// profileText is a profile in words.
func profileText(p output.Profile) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s  %s  %s\n", p.Build.ID, commandLine(p.Build.Begun), ended(p.Build))
	if len(p.Steps) == 0 {
		text.WriteString("\nno step ran\n")
		return text.String()
	}
	length := timeline.Length(p)
	fmt.Fprintf(&text, "\nthe critical path took %s%s:\n", seconds(p.Critical), ofBuild(p.Critical, length))
	var path []output.ProfileStep
	for _, s := range p.Steps {
		if s.Critical {
			path = append(path, s)
		}
	}
	text.WriteString(stepTable(path, length))
	fmt.Fprintf(&text, "\nthe slowest %s:\n", output.Count(min(slowest, len(p.Steps)), "step", "steps"))
	text.WriteString(stepTable(timeline.Slowest(p, slowest), length))
	fmt.Fprintf(&text, "\nall %s took %s together", output.Count(len(p.Steps), "step", "steps"), seconds(p.Work))
	if length > 0 {
		fmt.Fprintf(&text, ", %.1f at once on average; none ran for %s%s", p.Work/length, seconds(p.Idle), ofBuild(p.Idle, length))
	}
	text.WriteByte('\n')
	return text.String()
}

// ofBuild is such as ", 91% of the build".
func ofBuild(part, whole float64) string {
	if whole <= 0 {
		return ""
	}
	return fmt.Sprintf(", %.0f%% of the build", 100*part/whole)
}

func stepTable(steps []output.ProfileStep, length float64) string {
	rows := make([][]string, len(steps))
	for i, s := range steps {
		share := ""
		if length > 0 {
			share = fmt.Sprintf("%3.0f%%", 100*timeline.Seconds(s.StepRun)/length)
		}
		rows[i] = []string{"  " + seconds(timeline.Seconds(s.StepRun)), share, s.Label, s.Builtin, reason(s.StepRun)}
	}
	return output.Table(rows)
}

// reason says in some words why a step ran, or how it ended where that was not well.
func reason(s output.StepRun) string {
	switch {
	case s.State != history.Done:
		return s.State
	case len(s.Changes) > 0:
		text := "changed: " + s.Changes[0].Part
		if more := len(s.Changes) - 1; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		return text
	}
	return s.Why
}
