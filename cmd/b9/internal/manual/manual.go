// Package manual makes b9's manual pages of what the program says of itself: a page of
// section 1 for each command ([Pages]), and pages of section 5 for b9.toml and for
// build files, of the tables of settings and built-ins.
package manual

import (
	"fmt"
	"strings"

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
	body  string // the sections behind NAME, in man(7)
}

// File is the usual name of the page's file, such as "b9-build.1".
func (p *Page) File() string { return fmt.Sprintf("%s.%d", p.Name, p.Section) }

// Roff is the page in the language of man(7). The version, and a date such as
// 2026-11-28 or "", stand at its foot.
func (p *Page) Roff(version, date string) []byte {
	head := fmt.Sprintf(".TH \"%s\" \"%d\" \"%s\" \"b9 %s\" \"b9 Manual\"\n", strings.ToUpper(escape(p.Name)), p.Section, date, escape(version))
	return []byte(head + ".SH NAME\n" + escape(p.Name) + " \\- " + escape(p.about) + "\n" + p.body)
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
	var r roff
	r.section("SYNOPSIS")
	r.line(synopsis(cmd))
	if cmd.Long != "" {
		r.section("DESCRIPTION")
		r.paragraphs(cmd.Long)
	}
	if cmd.HasAvailableSubCommands() {
		r.section("COMMANDS")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				r.entry(page(pageName(c), 1), escape(c.Short))
			}
		}
	}
	flags(&r, "OPTIONS", cmd.NonInheritedFlags())
	flags(&r, "OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	if cmd.Example != "" {
		r.section("EXAMPLES")
		r.literal(cmd.Example)
	}
	also := []string{page("b9.toml", 5), page("B9BUILD.star", 5)}
	if cmd.HasParent() {
		also = append([]string{page(pageName(cmd.Parent()), 1)}, also...)
	}
	r.seeAlso(also...)
	return Page{Name: pageName(cmd), Section: 1, about: lowerFirst(cmd.Short), body: r.String()}
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// synopsis is how a command is called.
func synopsis(cmd *cobra.Command) string {
	name := bold(cmd.CommandPath()) + " [" + italic("flags") + "] "
	if cmd.HasAvailableSubCommands() {
		return name + "[" + italic("command") + "]"
	}
	return strings.TrimSpace(name + escape(strings.TrimSpace(strings.TrimPrefix(cmd.Use, cmd.Name()))))
}

// flags describes a set of flags, if it has one to show.
func flags(r *roff, title string, set *pflag.FlagSet) {
	if !set.HasAvailableFlags() {
		return
	}
	r.section(title)
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := bold("--" + f.Name)
		if f.Shorthand != "" {
			name = bold("-"+f.Shorthand) + ", " + name
		}
		if value != "" && f.Value.Type() != "bool" {
			name += "=" + italic(value)
		}
		r.entry(name, escape(usage)+defaultOf(f))
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
	var r roff
	r.section("DESCRIPTION")
	r.line("A workspace is a directory with a file " + bold("b9.toml") + ", which may be empty. What it says counts before what " + bold("~/.config/b9/config.toml") + " says, an environment variable such as " + bold("B9_STORE_DIR") + ", for " + italic("store.dir") + ", before both, and " + bold("-c") + " " + italic("KEY=VALUE") + " on the command line before all. " + bold("b9 config") + " prints every setting, its value, and where that was said.")
	r.paragraph("The format is TOML: the part of a key before the dot is its table.")
	r.section("SETTINGS")
	for _, s := range list {
		text := escape(s.Doc)
		if s.Default != "" && !strings.HasPrefix(s.Default, "/") { // which is below the home directory of who asks
			text += "; default " + escape(s.Default)
		}
		r.entry(bold(s.Key), text)
	}
	r.seeAlso(page("b9", 1), page("b9-config", 1), page("B9BUILD.star", 5))
	return Page{Name: "b9.toml", Section: 5, about: "settings of b9 and of a workspace", body: r.String()}
}

// language is the page of build files.
func language(operations []lang.Operation) Page {
	var r roff
	r.section("DESCRIPTION")
	r.line("A directory with a file " + bold("B9BUILD.star") + " is a package. The file is written in Starlark; calls of the built-ins below record targets, which " + bold("b9 build") + " makes. A call with " + italic("name") + " makes a target that others name by its label, " + italic("//package:name") + ". What a call returns can be given to others in its place.")
	r.paragraph("Rule libraries that come with b9 are loaded by " + bold(`load("@b9//debian.star", ...)`) + " and the like. " + bold("b9 builtins") + " " + italic("NAME") + " prints what stands here.")
	r.section("BUILT-INS")
	for _, op := range operations {
		r.subsection(op.Name + "()")
		r.paragraphs(op.Doc)
		parameters(&r, op.Params)
		if op.Example != "" {
			r.paragraph("Example:")
			r.literal(op.Example)
		}
	}
	r.section("PARAMETERS OF EVERY TARGET")
	parameters(&r, lang.CommonParams())
	r.seeAlso(page("b9", 1), page("b9-build", 1), page("b9-query", 1), page("b9.toml", 5))
	return Page{Name: "B9BUILD.star", Section: 5, about: "build files of b9", body: r.String()}
}

func parameters(r *roff, list []lang.Param) {
	for _, p := range list {
		r.entry(bold(p.Name)+": "+italic(p.Type.String())+condition(p), escape(oneLine(p.Doc)))
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
