package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/session"
)

// TestHelpTexts finds sections of help.txt that no command shows, and commands that
// say nothing of themselves.
func TestHelpTexts(t *testing.T) {
	texts := map[string]string{}
	for section := range strings.SplitSeq("\n"+helpText, "\n== ") {
		path, text, _ := strings.Cut(section, "\n")
		texts[path] = text
	}
	delete(texts, "")      // what comes before the first section
	delete(texts, "PLACE") // which others show
	each(commands(session.New(nil, nil, nil)), func(cmd *cobra.Command) {
		short, text, _ := strings.Cut(texts[cmd.CommandPath()], "\n")
		if short != "" && cmd.Short != short || strings.TrimSpace(text) != "" && cmd.Long == "" && cmd.Example == "" {
			t.Errorf("%s does not show its section", cmd.CommandPath())
		}
		if strings.Contains(cmd.Long, "[PLACE]") {
			t.Errorf("%s does not say what a place is", cmd.CommandPath())
		}
		if cmd.Short == "" {
			t.Errorf("%s says nothing of itself", cmd.CommandPath())
		}
		delete(texts, cmd.CommandPath())
	})
	for path := range texts {
		t.Errorf("help.txt has a section for %q, which is no command", path)
	}
}

// TestCommandsByName makes each command by its name alone, as with all others.
func TestCommandsByName(t *testing.T) {
	all := commands(session.New(nil, nil, nil))
	for name := range subcommands() {
		one, _, err := commands(session.New(nil, nil, nil), name).Find([]string{name})
		want, _, werr := all.Find([]string{name})
		if err != nil || werr != nil || one.Name() != name || one.UsageString() != want.UsageString() {
			t.Errorf("%s: %v %v: %s", name, err, werr, one.UsageString())
		}
	}
	if n := len(commands(session.New(nil, nil, nil), "-C", "x", "version").Commands()); n > 3 { // and completion
		t.Errorf("%d commands are made for one", n)
	}
	if n, want := len(commands(session.New(nil, nil, nil), "versoin", "--", "ls").Commands()), len(all.Commands()); n != want {
		t.Errorf("%d commands are made for none, want %d", n, want)
	}
}
