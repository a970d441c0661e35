package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang/outline"
	"b9.build/b9/cmd/b9/internal/session"
)

// TestCommandsShown gives every command line that the help, README and docs show to the
// program's own parser: the command is there, and so are its flags. Every Starlark block of
// the documents is read as a build file.
func TestCommandsShown(t *testing.T) {
	shown := map[string][]string{}
	each(commands(session.New(nil, nil, nil)), func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			if at := strings.Index(line, "b9 "); at >= 0 {
				shown["b9 help "+cmd.CommandPath()] = append(shown["b9 help "+cmd.CommandPath()], line[at:])
			}
		}
	})
	inText := regexp.MustCompile("(?m)`(b9 [^`]+)`|^    (?:sudo )?(b9 .+)$")
	noCommand := regexp.MustCompile(`^b9 ([a-z]+ \d+( [a-z]+)?(\\n)?.*|[A-Z]+)$`) // the first line of a file of the store; any command
	blocks := regexp.MustCompile("(?ms)^```python\n(.*?)^```$")
	for _, doc := range documentsOf(t) {
		data, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range inText.FindAllStringSubmatch(string(data), -1) {
			if line := m[1] + m[2]; !noCommand.MatchString(line) {
				shown[doc] = append(shown[doc], alternatives(line)...)
			}
		}
		for _, m := range blocks.FindAllSubmatch(data, -1) {
			text := string(m[1])
			_, err := outline.Parse(doc, []byte(text))
			if strings.HasPrefix(text, " ") { // a part of a dictionary, or of a call
				if _, err = outline.Parse(doc, []byte("{\n"+text+"}\n")); err != nil {
					_, err = outline.Parse(doc, []byte("call(\n"+text+")\n"))
				}
			}
			if err != nil {
				t.Errorf("%s: %v in\n%s", doc, err, text)
			}
		}
	}
	if len(shown) < 30 {
		t.Fatalf("examples are found in %d places only", len(shown))
	}
	for where, lines := range shown {
		for _, line := range lines {
			if err := parses(line); err != nil {
				t.Errorf("%s: %s: %v", where, strings.TrimSpace(line), err)
			}
		}
	}
}

// alternatives are the command lines that one stands for in a table: a [b\|c].
func alternatives(line string) (lines []string) {
	for _, word := range strings.Fields(line) {
		if !strings.Contains(word, `\|`) {
			continue
		}
		for one := range strings.SplitSeq(strings.Trim(word, "[]"), `\|`) {
			lines = append(lines, alternatives(strings.Replace(line, word, one, 1))...)
		}
		return lines
	}
	return []string{line}
}

func documentsOf(t *testing.T) (docs []string) {
	t.Helper()
	for _, pattern := range []string{"README.md", "CONTRIBUTING.md", "docs/*.md"} {
		found, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		docs = append(docs, found...)
	}
	return docs
}

// parses gives a command line to the parser of flags, without what a shell would do, the
// comment behind, and the words of an image's own command.
func parses(line string) error {
	var words []string
	// Two spaces are before a comment in the help.
	for _, word := range strings.Fields(strings.SplitN(strings.TrimSpace(line), "   ", 2)[0]) {
		word = strings.Trim(word, `'",.`)
		if strings.IndexAny(word, "#|>&;$") == 0 || word == "--" {
			break
		}
		words = append(words, strings.TrimSuffix(word, ";"))
	}
	err := parse(words)
	if err != nil && strings.Contains(err.Error(), "flag needs an argument") {
		err = parse(append(words, "1")) // one that a text names without its value
	}
	return err
}

func parse(words []string) error {
	root := commands(session.New(nil, nil, nil))
	root.InitDefaultHelpCmd()
	cmd, rest, err := root.Find(words[1:])
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	args := cmd.Flags().Args()
	switch {
	case !cmd.HasParent() && len(args) > 0:
		return errors.New("b9 has no command " + args[0])
	case cmd.HasSubCommands() && len(args) > 0:
		return cmd.ValidateArgs(args)
	}
	return nil
}

// TestParses: a command and a flag that there are not are found.
func TestParses(t *testing.T) {
	for line, ok := range map[string]bool{
		"b9 build -k //...   # all": true, "b9 run //:a -- ls --no-such": true, "b9 explain --exit-code //:a || echo": true,
		"b9 biuld //:a": false, "b9 build --no-such": false, "b9 cache gcc": false, "b9 repo remove --now x": false,
	} {
		if err := parses(line); (err == nil) != ok {
			t.Errorf("%s: %v", line, err)
		}
	}
}
