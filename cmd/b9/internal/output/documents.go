// Package output is all that b9 prints for programs, and the form of its
// errors: every JSON document with its name and version ([Print],
// [Documents]), errors as text and as a document ([Failures]), and the tables
// that people see ([Table]). It hides how a document is encoded, and prints
// nothing that is not in the table of documents.
//
// Names of fields are lower case with underscores, sizes are bytes, times are
// RFC 3339, durations are seconds, a position in a file is an object.
package output

import (
	"fmt"
	"time"

	"b9.build/b9/builtins/share"
	"b9.build/b9/engine"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/store"
)

// Document is a row of the table of documents.
type Document struct {
	Name    string
	Version int // raised when a field is removed, renamed or gets another meaning
	Of      string
	Zero    any // of the type that is printed
}

// Documents is every JSON document that b9 prints.
func Documents() []Document {
	return []Document{
		{"build", 1, "`build`, `watch`; `run` and `shell` before the command starts, on standard error", Build{}},
		{"builds", 1, "`builds`", Builds{}},
		{"builtins", 1, "`builtins`", Builtins{}},
		{"cache", 1, "`cache`", Cache{}},
		{"check", 1, "`image check`", Check{}},
		{"clean", 1, "`clean-local`, `clean-remote`", Clean{}},
		{"collection", 1, "`cache gc`", Collection{}},
		{"comparison", 1, "`image compare`", Comparison{}},
		{"config", 1, "`config`", Config{}},
		{"damage", 1, "`repo check`", Damage{}},
		{"diff", 1, "`diff`", Diff{}},
		{"doctor", 1, "`doctor`", Doctor{}},
		{"errors", 1, "every command that fails and has printed no other document", Errors{}},
		{"event", 1, "`--display json`: one a line, on standard error; `--events`, and the event log of a build: one a line", Event{}},
		{"explain", 1, "`explain`", Explain{}},
		{"files", 1, "`ls`", Files{}},
		{"formatted", 1, "`fmt`", Formatted{}},
		{"graph", 1, "`graph`", Graph{}},
		{"history", 1, "`log`, of a build", History{}},
		{"image", 1, "`image info`", Image{}},
		{"images", 1, "`list`, `push`, `pull`", Images{}},
		{"init", 1, "`init`", Init{}},
		{"lint", 1, "`lint`", Lint{}},
		{"lock", 1, "`update`", Lock{}},
		{"options", 1, "`query options`", Options{}},
		{"partitions", 1, "`image partitions`", Partitions{}},
		{"profile", 1, "`profile`", Profile{}},
		{"repositories", 1, "`repo list`", Repositories{}},
		{"targets", 1, "`query`, `affected`, `query deps`, `query rdeps`, `query kind`", Targets{}},
		{"tests", 1, "`test`", Tests{}},
		{"verification", 1, "`cache verify`", Verification{}},
		{"version", 1, "`version`", Version{}},
		{"doc", 1, "`doc`", Reference{}},
	}
}

// Place is a position in a file.
type Place engine.Position

// PlaceOf is the document's form of a position; nil for none.
func PlaceOf(p engine.Position) *Place {
	if p.File == "" {
		return nil
	}
	at := Place(p)
	return &at
}

// Build is what a build made.
type Build struct {
	Results  []Result `json:"results"`
	Executed int      `json:"executed"` // steps
	Cached   int      `json:"cached"`   // steps
	Seconds  float64  `json:"seconds"`

	Shared    []share.Locked    `json:"shared,omitempty"`    // what shared() resolved to
	Published []share.Published `json:"published,omitempty"` // what the share() that ran published

	Irreproducible []Irreproducible `json:"irreproducible,omitempty"`

	NotBuilt []NotBuilt `json:"not_built,omitempty"`
	Stale    []Stale    `json:"stale,omitempty"`

	Error  string    `json:"error,omitempty"` // all of Errors as text
	Errors []Failure `json:"errors,omitempty"`
}

// Irreproducible is a step that came out different when it was built again from the same
// inputs; of the first of them it is told in what.
type Irreproducible struct {
	Label   string `json:"label"`
	Builtin string `json:"builtin"`
	Place   *Place `json:"place,omitempty"`
	Output  string `json:"output,omitempty"`
	Diff    *Diff  `json:"diff,omitempty"`
}

// NotBuilt is a target that was asked for and could not be built because something else
// is wrong.
type NotBuilt struct {
	Label   string `json:"label"`   // or the path of a build file
	Reason  string `json:"reason"`  // failed, mistakes or stopped
	Because string `json:"because"` // the label of what failed, or the path of the file with mistakes
}

// Stale is what an earlier build placed and this one did not renew.
type Stale struct {
	Label  string `json:"label"` // of what it was the result of
	Path   string `json:"path"`
	Reason string `json:"reason"` // gone, moved or old
}

// Tests is how tests ended.
type Tests struct {
	Tests   []Test  `json:"tests"`
	Passed  int     `json:"passed"` // cached ones, too
	Cached  int     `json:"cached"` // passed before, and nothing has changed
	Failed  int     `json:"failed"`
	NotRun  int     `json:"not_run"`
	Seconds float64 `json:"seconds"`

	NotBuilt []NotBuilt `json:"not_built,omitempty"` // because of mistakes in build files

	Error  string    `json:"error,omitempty"` // all of Errors as text
	Errors []Failure `json:"errors,omitempty"`
}

// Add adds a test.
func (t *Tests) Add(x Test) {
	t.Tests = append(t.Tests, x)
	switch x.Status {
	case "passed":
		t.Passed++
		if x.Cached {
			t.Cached++
		}
	case "failed":
		t.Failed++
	default:
		t.NotRun++
	}
}

// Total is such as "3 tests: 2 passed (1 cached), 1 failed".
func (t *Tests) Total() string {
	text := fmt.Sprintf("%s: %d passed (%d cached)", Count(len(t.Tests), "test", "tests"), t.Passed, t.Cached)
	if t.Failed > 0 {
		text += fmt.Sprintf(", %d failed", t.Failed)
	}
	if t.NotRun > 0 {
		text += fmt.Sprintf(", %d not run", t.NotRun)
	}
	return text
}

// Test is how one test ended.
type Test struct {
	Label   string  `json:"label"`
	Kind    string  `json:"kind"`              // unit: a function of a file *_test.star; boot: a target of boot_test()
	Status  string  `json:"status"`            // passed, failed or not_run
	Cached  bool    `json:"cached"`            // it passed before, and nothing has changed
	Seconds float64 `json:"seconds"`           // that it ran
	Why     string  `json:"why,omitempty"`     // it ran
	Because string  `json:"because,omitempty"` // why it was not run
	Place   *Place  `json:"place,omitempty"`
	Failure string  `json:"failure,omitempty"` // with the place of what was expected
	Log     string  `json:"log,omitempty"`     // path
}

// Result is one file or directory that a build made.
type Result struct {
	Label  string `json:"label"`
	Output string `json:"output,omitempty"`
	Path   string `json:"path"`
	Size   int64  `json:"size"` // bytes
	Digest string `json:"digest"`
}

// Builtins lists what build files can call.
type Builtins struct {
	Builtins []Builtin `json:"builtins"`
}

// Builtin is one of what build files can call.
type Builtin struct {
	Name    string      `json:"name"`
	Doc     string      `json:"doc"`
	Example string      `json:"example,omitempty"`
	Params  []Parameter `json:"params"`
}

// Parameter is one of a built-in.
type Parameter struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Required bool     `json:"required,omitempty"`
	Default  string   `json:"default,omitempty"`
	Enum     []string `json:"enum,omitempty"`
	Doc      string   `json:"doc"`
}

// Reference is what there is to call in build files, by where it comes from.
type Reference struct {
	Parts []ReferencePart `json:"parts"`
}

// ReferencePart is the built-ins, the language, or a library.
type ReferencePart struct {
	Name    string           `json:"name"`
	Doc     string           `json:"doc"`
	Entries []ReferenceEntry `json:"entries"`
}

// ReferenceEntry is one name.
type ReferenceEntry struct {
	Name    string      `json:"name"`
	Call    string      `json:"call,omitempty"` // how it is called, where that is not by the parameters
	Doc     string      `json:"doc"`
	Example string      `json:"example,omitempty"`
	Params  []Parameter `json:"params,omitempty"`
}

// Cache is what the store holds.
type Cache struct {
	store.Usage
	Free    int64  `json:"free"`    // bytes, of the file system
	Total   int64  `json:"total"`   // bytes, of the file system
	Reserve int64  `json:"reserve"` // bytes that builds keep free
	Limit   int64  `json:"limit"`   // bytes that the store may occupy; 0 is no limit
	Held    []Held `json:"held"`    // what takes most first
}

// Held is something that takes room in the store.
type Held struct {
	Bytes  int64      `json:"bytes"` // that would be freed
	Used   time.Time  `json:"used"`
	Digest string     `json:"digest,omitempty"`
	Failed string     `json:"failed,omitempty"` // label of the step that failed and left it
	Steps  []HeldStep `json:"steps,omitempty"`  // that made it, the newest first
	Names  []HeldName `json:"names,omitempty"`  // that keep it
	Bears  int        `json:"bears,omitempty"`  // objects that are kept as their differences to it
	InUse  bool       `json:"in_use"`           // a build that runs may need it
}

// HeldStep is a step that made something.
type HeldStep struct {
	Label     string `json:"label"`
	Workspace string `json:"workspace,omitempty"`
	Kind      string `json:"kind"`
	Output    string `json:"output,omitempty"`
}

// HeldName keeps something: a label of a workspace, or a symbolic link.
type HeldName struct {
	Workspace string `json:"workspace,omitempty"`
	Label     string `json:"label,omitempty"`
	Link      string `json:"link,omitempty"` // path
}

// Collection is what a collection of the store removed, or would remove.
type Collection struct{ store.CollectReport }

// Verification is what reading the whole store found.
type Verification struct{ store.VerifyReport }

// Check is what the check of an image found.
type Check struct {
	Path        string   `json:"path"`
	Checked     string   `json:"checked"` // the format, or what is in a raw image
	Clusters    int64    `json:"clusters,omitempty"`
	Leaks       int64    `json:"leaks"`
	Corruptions int64    `json:"corruptions"`
	Problems    []string `json:"problems,omitempty"`
}

// Clean is what was removed from a list of shared images.
type Clean struct{ repo.CleanReport }

// Comparison says whether two images hold the same bytes.
type Comparison struct {
	Identical bool   `json:"identical"`
	Offset    *int64 `json:"offset,omitempty"` // of the first byte that differs
}

// Config is every setting.
type Config struct {
	Settings []config.Setting `json:"settings"`
}

// Damage is what is wrong in a repository.
type Damage struct {
	Damage []repo.Damage `json:"damage"`
}

// Doctor is what was found out about the machine.
type Doctor struct {
	Checks []Finding `json:"checks"`
}

// Finding is the result of one check of this machine.
type Finding struct {
	Name   string `json:"name"`
	Status string `json:"status"`        // ok, warn (something cannot be used) or fail (building cannot work)
	Detail string `json:"detail"`        // what was found
	Fix    string `json:"fix,omitempty"` // what to do, empty when nothing need be done
}

// Errors is why a command failed.
type Errors struct {
	Status int       `json:"status"` // the exit status
	Errors []Failure `json:"errors"`
}

// Failure is one error.
type Failure struct {
	Label      string  `json:"label,omitempty"`   // of the target, pattern or step, where it is known
	Builtin    string  `json:"builtin,omitempty"` // that the failed step is of
	Place      *Place  `json:"place,omitempty"`
	Cause      string  `json:"cause"`
	CalledFrom []Place `json:"called_from,omitempty"` // the innermost call first
	Within     []Place `json:"within,omitempty"`      // calls in libraries of b9 below place, the outermost first
	Log        string  `json:"log,omitempty"`         // path
	Kept       string  `json:"kept,omitempty"`        // path of what the step left
}

// Explain says which steps would run.
type Explain struct {
	Steps []Step `json:"steps"`
}

// Step is one step, and why it would run.
type Step struct {
	Label     string      `json:"label"`
	Builtin   string      `json:"builtin"`
	Runs      bool        `json:"runs"`
	Note      string      `json:"note,omitempty"`
	Elsewhere string      `json:"elsewhere,omitempty"` // the workspace, repository or file whose step it is compared with, if it is not this workspace's
	Pending   []string    `json:"pending,omitempty"`   // steps that run first, and whose results it needs
	Changes   []Change    `json:"changes,omitempty"`
	Failed    *FailedStep `json:"failed,omitempty"` // when it ran last
}

// Change is one part of the key of a step that differs, and what it is for people.
type Change struct {
	Part  string   `json:"part"`
	Path  string   `json:"path,omitempty"` // of a file in the directory that the part is
	Old   string   `json:"old"`
	New   string   `json:"new"`
	What  string   `json:"what"`            // such as "memory", or "file web/setup.sh (script)"
	Place *Place   `json:"place,omitempty"` // of the argument
	Was   string   `json:"was,omitempty"`   // old, as a build file has it
	Is    string   `json:"is,omitempty"`    // new, likewise
	Lines []string `json:"lines,omitempty"` // how a text differs, as diff -u has it
}

// FailedStep is what a failed step left.
type FailedStep struct {
	Time time.Time `json:"time"`
	Kept string    `json:"kept"` // path
	Log  string    `json:"log"`  // path

	Stopped bool `json:"stopped,omitempty"` // by an interruption, and nothing is wrong with it
}

// Files lists files that lie in images.
type Files struct {
	Files []File `json:"files"`
}

// File is a file that lies in an image.
type File struct {
	Image  string    `json:"image"` // as the command line named it
	Path   string    `json:"path"`
	Type   string    `json:"type"` // file, directory, link, block, char, fifo, socket
	Mode   string    `json:"mode"` // octal permission bits
	Links  uint32    `json:"links"`
	UID    uint32    `json:"uid"`
	GID    uint32    `json:"gid"`
	Size   int64     `json:"size"` // bytes
	Time   time.Time `json:"time"`
	Target string    `json:"target,omitempty"`
	Major  uint32    `json:"major,omitempty"`
	Minor  uint32    `json:"minor,omitempty"`
}

// Image describes a disk image. Sizes are bytes.
type Image struct {
	Path          string                `json:"path"`
	Format        string                `json:"format"`
	Subformat     string                `json:"subformat,omitempty"`
	Size          int64                 `json:"size"`
	Allocated     int64                 `json:"allocated"`
	Unit          int64                 `json:"unit,omitempty"`
	Compression   string                `json:"compression,omitempty"`
	Backing       string                `json:"backing,omitempty"`
	BackingFormat string                `json:"backing_format,omitempty"`
	FileSystem    string                `json:"file_system,omitempty"`
	Label         string                `json:"label,omitempty"`
	UUID          string                `json:"uuid,omitempty"`
	Table         string                `json:"table,omitempty"`
	TableBackup   string                `json:"table_backup,omitempty"` // why the backup of a GPT was read
	Partitions    []partition.Partition `json:"partitions,omitempty"`
}

// Partitions is a partition table.
type Partitions struct {
	Table      string                `json:"table"`
	Sector     int                   `json:"sector"` // bytes
	ID         string                `json:"id"`
	Backup     string                `json:"backup,omitempty"` // why the backup of a GPT was read
	Partitions []partition.Partition `json:"partitions"`
}

// Images lists versions of shared images.
type Images struct {
	Images []repo.Version `json:"images"`
}

// Init is what was written to make a workspace.
type Init struct {
	Wrote []string `json:"wrote"` // paths
	There []string `json:"there"` // paths of what was there already
}

// Lock is what b9.lock has for the newest versions now.
type Lock struct {
	Images []share.Locked `json:"images"`
}

// Repositories lists the repositories that have a name.
type Repositories struct {
	Repositories []Repository `json:"repositories"`
}

// Repository is one that has a name.
type Repository struct {
	Name     string `json:"name"`
	Location string `json:"location"`
	Default  bool   `json:"default"`
	Cache    bool   `json:"cache"`
}

// Targets lists targets of build files.
type Targets struct {
	Targets []Target `json:"targets"`

	Error  string    `json:"error,omitempty"` // all of Errors as text
	Errors []Failure `json:"errors,omitempty"`
}

// Target is a target, an unnamed step or a source file.
type Target struct {
	Label   string `json:"label"`
	Builtin string `json:"builtin"`
	Place   *Place `json:"place,omitempty"`
	Doc     string `json:"doc,omitempty"`

	Tags []string `json:"tags,omitempty"`
}

// Options lists options that build files declare.
type Options struct {
	Options []Option `json:"options"`
}

// Option is one of them.
type Option struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Default string   `json:"default,omitempty"`
	Help    string   `json:"help,omitempty"`
	Choices []string `json:"choices,omitempty"`
	Place   *Place   `json:"place,omitempty"`
}

// Version says which b9 this is.
type Version struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Date     string `json:"date,omitempty"` // of the revision, such as 2026-11-28
	Go       string `json:"go"`
}

// Formatted is what `fmt` changed, or would.
type Formatted struct {
	Changed []string `json:"changed"` // files
}

// Lint is what `lint` found.
type Lint struct {
	Found []Suspicion `json:"found"`
	Fixed []string    `json:"fixed"` // files that --fix changed
}

// Suspicion is one thing that is suspicious in a file.
type Suspicion struct {
	Place
	Rule string `json:"rule"`
	Text string `json:"text"`
}
