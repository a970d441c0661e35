// Package manual makes b9's manual pages of what the program says of itself: a page of
// section 1 for each command ([Pages]), and pages of section 5 for b9.toml and for
// build files, of the tables of settings and built-ins.
package manual

import (
	"fmt"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine/config"
)

// Page is one manual page.
type Page struct {
	Name    string // such as "b9-build"
	Section int    // 1 is for commands, 5 for formats of files

	about string // what it is, in a line
	body  string // Markdown, the sections behind NAME
}

// File is the usual name of the page's file, such as "b9-build.1".
func (p *Page) File() string { return fmt.Sprintf("%s.%d", p.Name, p.Section) }

// Roff is the page in the language of man(7). The version, and a date such as
// 2026-11-28 or "", stand at its foot.
func (p *Page) Roff(version, date string) []byte {
	var text strings.Builder
	fmt.Fprintf(&text, "%% \"%s\" \"%d\" \"%s\" \"b9 %s\" \"b9 Manual\"\n", strings.ToUpper(p.Name), p.Section, date, version)
	fmt.Fprintf(&text, "# NAME\n\n%s \\- %s\n\n%s", escape(p.Name), escape(p.about), p.body)
	return md2man.Render([]byte(text.String()))
}

// Pages are those of the program whose first command is root.
func Pages(root *cobra.Command, list []config.Setting, operations []lang.Operation) []Page {
	pages := []Page{settings(list), language(operations)}
	var each func(*cobra.Command)
	each = func(cmd *cobra.Command) {
		pages = append(pages, command(cmd))
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				each(c)
			}
		}
	}
	each(root)
	return pages
}

// command is the page of a command.
func command(cmd *cobra.Command) Page {
	var b strings.Builder
	fmt.Fprintf(&b, "# SYNOPSIS\n\n%s\n\n", synopsis(cmd))
	if cmd.Long != "" {
		fmt.Fprintf(&b, "# DESCRIPTION\n\n%s\n\n", paragraphs(cmd.Long))
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("# COMMANDS\n\n")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				fmt.Fprintf(&b, "**%s**(1)\n: %s\n\n", escape(pageName(c)), escape(c.Short))
			}
		}
	}
	flags(&b, "OPTIONS", cmd.NonInheritedFlags())
	flags(&b, "OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	if cmd.Example != "" {
		fmt.Fprintf(&b, "# EXAMPLES\n\n%s\n", literal(cmd.Example))
	}
	b.WriteString("# SEE ALSO\n\n")
	if cmd.HasParent() {
		fmt.Fprintf(&b, "**%s**(1), ", escape(pageName(cmd.Parent())))
	}
	b.WriteString("**b9.toml**(5), **B9BUILD.star**(5)\n")
	return Page{Name: pageName(cmd), Section: 1, about: lowerFirst(cmd.Short), body: b.String()}
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// synopsis is how a command is called.
func synopsis(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() {
		return "**" + escape(cmd.CommandPath()) + "** [*flags*] [*command*]"
	}
	arguments := strings.TrimSpace(strings.TrimPrefix(cmd.Use, cmd.Name()))
	return strings.TrimSpace("**" + escape(cmd.CommandPath()) + "** [*flags*] " + escape(arguments))
}

// flags describes a set of flags, if it has one to show.
func flags(b *strings.Builder, title string, set *pflag.FlagSet) {
	if !set.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, "# %s\n\n", title)
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "**--" + escape(f.Name) + "**"
		if f.Shorthand != "" {
			name = "**-" + f.Shorthand + "**, " + name
		}
		if value != "" && f.Value.Type() != "bool" {
			name += "=*" + escape(value) + "*"
		}
		fmt.Fprintf(b, "%s\n: %s%s\n\n", name, escape(usage), defaultOf(f))
	})
}

func defaultOf(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "false", "[]", "0", "0s":
		return ""
	}
	return " (default " + escape(f.DefValue) + ")"
}

// settings is the page of b9.toml.
func settings(list []config.Setting) Page {
	var b strings.Builder
	b.WriteString("# DESCRIPTION\n\nA workspace is a directory with a file **b9.toml**, which may be empty. What it says counts before what **~/.config/b9/config.toml** says, an environment variable such as **B9\\_STORE\\_DIR**, for *store.dir*, before both, and **-c** *KEY=VALUE* on the command line before all. **b9 config** prints every setting, its value, and where that was said.\n\n")
	b.WriteString("The format is TOML: the part of a key before the dot is its table.\n\n# SETTINGS\n\n")
	for _, s := range list {
		text := escape(s.Doc)
		if s.Default != "" && !strings.HasPrefix(s.Default, "/") { // which is below the home directory of who asks
			text += "; default " + escape(s.Default)
		}
		fmt.Fprintf(&b, "**%s**\n: %s\n\n", escape(s.Key), text)
	}
	b.WriteString("# SEE ALSO\n\n**b9**(1), **b9-config**(1), **B9BUILD.star**(5)\n")
	return Page{Name: "b9.toml", Section: 5, about: "settings of b9 and of a workspace", body: b.String()}
}

// language is the page of build files.
func language(operations []lang.Operation) Page {
	var b strings.Builder
	b.WriteString("# DESCRIPTION\n\nA directory with a file **B9BUILD.star** is a package. The file is written in Starlark; calls of the built-ins below record targets, which **b9 build** makes. A call with *name* makes a target that others name by its label, *//package:name*. What a call returns can be given to others in its place.\n\nRule libraries that come with b9 are loaded by **load(\"@b9//debian.star\", ...)** and the like. **b9 builtins** *NAME* prints what stands here.\n\n# BUILT-INS\n\n")
	for _, op := range operations {
		fmt.Fprintf(&b, "## %s()\n\n%s\n\n", escape(op.Name), paragraphs(op.Doc))
		parameters(&b, op.Params)
		if op.Example != "" {
			fmt.Fprintf(&b, "Example:\n\n%s\n", literal(op.Example))
		}
	}
	b.WriteString("# PARAMETERS OF EVERY TARGET\n\n")
	parameters(&b, lang.CommonParams())
	b.WriteString("# SEE ALSO\n\n**b9**(1), **b9-build**(1), **b9-query**(1), **b9.toml**(5)\n")
	return Page{Name: "B9BUILD.star", Section: 5, about: "build files of b9", body: b.String()}
}

func parameters(b *strings.Builder, list []lang.Param) {
	for _, p := range list {
		fmt.Fprintf(b, "**%s**: *%s*%s\n: %s\n\n", escape(p.Name), escape(p.Type.String()), condition(p), escape(oneLine(p.Doc)))
	}
}

// condition says when a parameter may be left out.
func condition(p lang.Param) string {
	text := ""
	switch {
	case p.Required:
		text = ", required"
	case p.Default != nil:
		text = ", default " + escape(p.Default.String())
	}
	if len(p.Enum) > 0 {
		text += ", one of " + escape(strings.Join(p.Enum, ", "))
	}
	return text
}
