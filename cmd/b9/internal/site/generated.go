package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// reference is what the program says of itself, as documents by the names that the
// contents have for them.
func reference(program string) (map[string]string, error) {
	builtins, err := ask(program, "doc", "--format", "markdown")
	if err != nil {
		return nil, err
	}
	commands, err := commandPages(program)
	if err != nil {
		return nil, err
	}
	settings, err := settingsPage(program)
	if err != nil {
		return nil, err
	}
	return map[string]string{"generated/builtins.md": builtins, "generated/commands.md": commands, "generated/settings.md": settings}, nil
}

// ask returns what the program prints. It sees neither a workspace nor a person's settings.
func ask(program string, args ...string) (string, error) {
	nowhere, err := os.MkdirTemp("", "b9-site-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(nowhere)
	cmd := exec.Command(program, args...)
	cmd.Dir = nowhere
	cmd.Env = []string{"HOME=/nonexistent", "XDG_CONFIG_HOME=" + nowhere, "XDG_CACHE_HOME=" + nowhere, "PATH=" + os.Getenv("PATH"), "COLUMNS=100", "NO_COLOR=1"}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("b9 %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

// commandPages has a heading and the help for each command.
func commandPages(program string) (string, error) {
	var b strings.Builder
	b.WriteString("# Commands\n\nWhat `b9 COMMAND --help` says. [Exit statuses and JSON](../docs/output.md) have a page of their own.\n")
	err := eachCommand(program, []string{"b9"}, func(name, help string) {
		fmt.Fprintf(&b, "\n## %s\n\n````text\n%s````\n", name, help)
	})
	return b.String(), err
}

// eachCommand calls f for a command and those beneath it, with the help of each.
func eachCommand(program string, words []string, f func(name, help string)) error {
	help, err := ask(program, append(words[1:len(words):len(words)], "--help")...)
	if err != nil {
		return err
	}
	f(strings.Join(words, " "), help)
	_, list, _ := strings.Cut(help, "\nAvailable Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if !strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "   ") || fields[0] == "help" {
			continue
		}
		if err := eachCommand(program, append(words[:len(words):len(words)], fields[0]), f); err != nil {
			return err
		}
	}
	return nil
}

// settingsPage is the table of settings.
func settingsPage(program string) (string, error) {
	out, err := ask(program, "config", "--json")
	if err != nil {
		return "", err
	}
	var doc struct {
		Settings []struct{ Key, Default, Doc string }
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		return "", fmt.Errorf("b9 config --json: %w", err)
	}
	var b strings.Builder
	b.WriteString("# Settings\n\nIn `b9.toml` of a workspace, in `~/.config/b9/config.toml`, in the environment (`container.memory` is `B9_CONTAINER_MEMORY`), or as `-c KEY=VALUE`; later ones win. `b9 config` tells where a value came from.\n\n| setting | default | meaning |\n|---|---|---|\n")
	for _, s := range doc.Settings {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", s.Key, s.Default, strings.ReplaceAll(s.Doc, "|", "\\|"))
	}
	return strings.ReplaceAll(b.String(), "| `` |", "| |"), nil
}
