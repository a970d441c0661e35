package cloudinit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// schemaFile is the schema of Debian's package cloud-init.
const schemaFile = "/usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"

// facts are what a schema or a table says, one sentence each, such as
// "users[]: key name" or "swap.size: enum auto". What alternatives say of the
// same value stands side by side.
type facts map[string]bool

func (f facts) add(path, format string, args ...any) {
	f[path+": "+fmt.Sprintf(format, args...)] = true
}

// ofRule adds what a rule of the tables says of the value at path.
func (f facts) ofRule(path string, r *rule) {
	if r == nil {
		return
	}
	for _, v := range r.enum {
		f.add(path, "enum %v", v)
	}
	if r.enum == nil {
		for _, name := range r.kinds.names() {
			f.add(path, "type %s", name)
		}
	}
	for key, field := range r.fields {
		f.add(path, "key %s", key)
		f.ofRule(below(path, key), field)
	}
	for _, p := range r.patterns {
		f.add(path, "keys %s", p.name)
		f.ofRule(below(path, p.name.String()), p.rule)
	}
	for _, key := range r.required {
		f.add(path, "required %s", key)
	}
	f.limits(path, r)
	if r.rest != nil {
		f.add(path, "keys .*")
		f.ofRule(below(path, ".*"), r.rest)
	}
	f.ofRule(path+"[]", r.items)
	for _, o := range slices.Concat(r.one, r.any) {
		f.ofRule(path, o)
	}
}

func (f facts) limits(path string, r *rule) {
	for name, n := range map[string]int{"minProperties": r.minFields, "minItems": r.minItems, "maxItems": r.maxItems} {
		if n > 0 {
			f.add(path, "%s %d", name, n)
		}
	}
	if r.minimum != nil {
		f.add(path, "minimum %d", *r.minimum)
	}
	if r.form != nil {
		f.add(path, "pattern %s", r.form)
	}
	for name, is := range map[string]bool{"uniqueItems": r.unique, "format date": r.isDate, "deprecated": r.deprecated, "closed": r.closed} {
		if is {
			f.add(path, "%s", name)
		}
	}
}

func below(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// schemaTypes are the schema's names of our kinds.
func schemaTypes() map[string]string {
	return map[string]string{"string": "text", "boolean": "bool", "integer": "int", "number": "number", "null": "null", "array": "list", "object": "mapping"}
}

// schema is a JSON schema (draft 4) with its definitions.
type schema struct {
	facts
	defs map[string]any
}

// of adds what a node of the schema says of the value at path.
func (s schema) of(path string, node map[string]any) {
	if ref, ok := node["$ref"].(string); ok {
		s.of(path, s.defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any))
	}
	enum, _ := node["enum"].([]any)
	for _, v := range enum {
		s.add(path, "enum %v", v)
	}
	if enum == nil {
		s.types(path, node["type"])
	}
	for key, v := range object(node["properties"]) {
		s.add(path, "key %s", key)
		s.of(below(path, key), object(v))
	}
	for form, v := range object(node["patternProperties"]) {
		s.add(path, "keys %s", form)
		s.of(below(path, form), object(v))
	}
	required, _ := node["required"].([]any)
	for _, key := range required {
		s.add(path, "required %v", key)
	}
	s.limits(path, node)
	s.of2(path, node)
}

// of2 follows what lies below: items, alternatives, and rules of other keys.
func (s schema) of2(path string, node map[string]any) {
	if items := object(node["items"]); len(items) > 0 {
		s.of(path+"[]", items)
	}
	if rest := object(node["additionalProperties"]); len(rest) > 0 {
		s.add(path, "keys .*")
		s.of(below(path, ".*"), rest)
	}
	for _, name := range []string{"oneOf", "anyOf", "allOf"} {
		list, _ := node[name].([]any)
		for _, v := range list {
			s.of(path, object(v))
		}
	}
}

func (s schema) types(path string, t any) {
	names, _ := t.([]any)
	if name, ok := t.(string); ok {
		names = []any{name}
	}
	for _, name := range names {
		s.add(path, "type %s", schemaTypes()[name.(string)])
	}
}

func (s schema) limits(path string, node map[string]any) {
	for _, name := range []string{"minProperties", "minItems", "maxItems", "minimum", "pattern", "format"} {
		if v, ok := node[name]; ok {
			s.add(path, "%s %v", name, v)
		}
	}
	for _, name := range []string{"uniqueItems", "deprecated"} {
		if node[name] == true {
			s.add(path, "%s", name)
		}
	}
	if node["additionalProperties"] == false {
		s.add(path, "closed")
	}
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// readSchema returns what the installed schema says.
func readSchema(t *testing.T) facts {
	t.Helper()
	file := schemaFile
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no %s (Debian package cloud-init)", file)
	}
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	s := schema{facts: facts{}, defs: object(root["$defs"])}
	s.of("", root)
	return s.facts
}

// configRule is the rule of a whole cloud-config.
func configRule() *rule {
	all := &rule{kinds: isMap, fields: map[string]*rule{}}
	for _, key := range config().keys {
		all.fields[key] = config().rule(key)
	}
	return all
}

func TestTablesMatchSchema(t *testing.T) {
	want, got := readSchema(t), facts{}
	got.ofRule("", configRule())
	reasons := intended()
	used := make([]bool, len(reasons))
	report := func(prefix string, all, other facts) {
		var lines []string
		for f := range all {
			if !other[f] {
				lines = append(lines, prefix+f)
			}
		}
		slices.Sort(lines)
		for _, line := range lines {
			i := slices.IndexFunc(reasons, func(d difference) bool { return d.form.MatchString(line) })
			if i < 0 {
				t.Errorf("%s", line)
				continue
			}
			used[i] = true
		}
	}
	report("- ", want, got)
	report("+ ", got, want)
	for i, d := range reasons {
		if !used[i] {
			t.Errorf("there is no difference %s any more", d.form)
		}
	}
	t.Logf("the schema says %d things, the tables %d", len(want), len(got))
}

// difference is one between the schema of cloud-init 22.4 and the tables: lines
// with - are what only the schema says, lines with + what only the tables say.
type difference struct {
	form *regexp.Regexp
	why  string
}

// intended lists the differences that are meant.
func intended() []difference {
	var all []difference
	for _, d := range []struct{ form, why string }{
		{`^- .*: format (uri|hostname)$`, "cloud-init's validator checks these formats only with packages that it does not ask for"},
		{`^- (user|users\[\]): required (name|snapuser)$`, "checkUserName asks for one of the two"},
		{`^- yum_repos\..*: required baseurl$`, "checkYumRepo also takes the metalink and mirrorlist of later versions"},
		{`^- ansible\.pull: required playbook_name$`, "checkPlaybook also takes the playbook_names of later versions"},
		{`^- users?(\[\])?\.groups\.\^\.\+\$: minItems 1$`, "a limit of lists, on a value that must be null"},
		{`^- users: minItems 1$`, "later versions take an empty list"},
		{`^\+ ansible\.pull(\[\])?[.:]`, "later: a list of pulls, playbook_names, inventory, verify_commit"},
		{`^\+ chef(: key config_path$|\.config_path:)`, "later: config_path"},
		{`^\+ cloud_(init|config|final)_modules\[\]: enum (raspberry|ubuntu)[-_](pi|pro)$`, "later: two more modules"},
		{`^\+ disk_setup\..*\.layout\[\]\[\]: type text$`, "later: types of partitions as GUIDs"},
		{`^\+ grub_dpkg(: key grub-efi/install_devices$|\.grub-efi/install_devices:)`, "later: grub-efi/install_devices"},
		{`^\+ locale: type bool$`, "later: false sets none"},
		{`^\+ ntp(: key (allow|peers)$|\.(allow|peers)(\[\])?:)`, "later: allow and peers"},
		{`^\+ packages\[\]`, "later: packages by their manager"},
		{`^\+ rh_subscription[.:]`, "later: underscores instead of dashes, release_version, an org of digits as text"},
		{`^\+ rsyslog(: key (check_exe|install_rsyslog|packages)$|\.(check_exe|install_rsyslog|packages)(\[\])?:)`, "later: what installs rsyslog"},
		{`^\+ users?(\[\])?(: key doas$|\.(doas|sudo)(\[\])?:)`, "later: doas, and a list of sudo rules"},
		{`^\+ users?(\[\])?(: key |\.)(create-groups|hashed-passwd|no-create-home|no-log-init|no-user-group|plain-text-passwd|primary-group|selinux-user|ssh-authorized-keys|ssh-import-id|ssh-redirect-user)(\[\])?(:|$)`, "later: dashes instead of underscores, deprecated"},
		{`^\+ write_files\[\](: key source$|\.source)`, "later: content that is fetched"},
		{`^\+ yum_repos\.[^:]*: (type text|key (metalink|mirrorlist))$`, "later: metalink and mirrorlist"},
	} {
		all = append(all, difference{regexp.MustCompile(d.form), d.why})
	}
	return all
}
