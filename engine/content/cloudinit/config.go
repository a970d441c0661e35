package cloudinit

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"b9.build/b9/engine/content/yaml"
	"b9.build/b9/engine/near"
)

// CheckConfig finds the mistakes in a cloud-config, and joins to them the
// warnings of reading it, but for those that the mistakes explain and for bools
// written as yes or no where a bool is wanted. It knows the keys of the
// modules of cloud-init 22.4 and agrees with its schema, with these
// differences:
//
//   - it accepts what later versions accept;
//   - a top-level key that no module reads is a mistake when a known one is
//     close, else a warning;
//   - permissions of write_files must be octal digits.
//
// Findings have paths such as write_files[0].path.
func CheckConfig(n *yaml.Node, warnings []yaml.Finding) []yaml.Finding {
	return runCheck(configRule(), n, warnings, func(c *ruleCheck, v yaml.Fields) {
		for _, f := range v {
			c.topLevel(f)
		}
	})
}

// maxChecked bounds the values that a check visits.
const maxChecked = 4_000_000

func runCheck(r *rule, n *yaml.Node, warnings []yaml.Finding, more func(*ruleCheck, yaml.Fields)) []yaml.Finding {
	c := &ruleCheck{work: maxChecked}
	fields, ok := n.Value.(yaml.Fields)
	if !ok {
		c.add(n, "", findType, "want a mapping, got %s", n.Kind())
		return c.findings
	}
	c.apply(r, n, "")
	more(c, fields)
	for _, w := range warnings {
		if !c.silent[w.At] {
			c.findings = append(c.findings, w)
		}
	}
	return c.findings
}

// configRule joins the tables of all modules. It is never changed.
var configRule = sync.OnceValue(func() *rule {
	all := rules{}
	for _, module := range modules() {
		maps.Copy(all, module())
	}
	return tOpenMap(all)
})

// otherKeys are top-level keys without a module: those of cloud-init itself,
// of parts of user-data, and of later versions.
func otherKeys() []string {
	return []string{
		"merge_how", "merge_type", "launch-index", "system_info", "datasource", "datasource_list", "output", "log_cfgs", "def_log_file", "syslog_fix_perms",
		"network", "network_mode", "manual_cache_clean", "allow_userdata", "vendor_data2", "unverified_modules", "disable_vmware_customization", "no_ssh_fingerprints",
		"ssh_fp_console_blacklist", "warnings", "create_hostname_file", "cloud_type", "created_by", "ubuntu_pro", "rpi", "package_mirrors", "growroot-disabled", "ssh_import_id", "debug",
		"apt_sources", "apt_mirror", "apt_mirror_search", "apt_proxy", "apt_http_proxy", "apt_https_proxy", "apt_ftp_proxy", "apt_custom_sources_list", "apt_preserve_sources_list", "debconf_selections",
	}
}

var topLevelKeys = sync.OnceValue(func() []string {
	keys := slices.Collect(maps.Keys(configRule().fields))
	slices.Sort(keys)
	return keys
})

// topLevel reports a key that nothing reads.
func (c *ruleCheck) topLevel(f yaml.Field) {
	name, ok := f.Key.Value.(string)
	if ok && (configRule().fields[name] != nil || slices.Contains(otherKeys(), name) || strings.HasPrefix(name, "x-")) {
		return
	}
	path := yaml.JoinPath("", f.Key)
	if best := near.Match(name, topLevelKeys()); ok && best != "" {
		c.add(f.Key, path, findUnknown, "cloud-init has no such key: did you mean %q?", best)
		return
	}
	c.findings = append(c.findings, yaml.Finding{At: f.Key.At, Path: path, Name: findUnknown, Warning: true, Msg: "cloud-init has no such key"})
}

var permissionForm = regexp.MustCompile(`^\s*(0o)?[0-7]{3,5}\s*$`)

// checkPermissions holds permissions of files to be octal digits.
func checkPermissions(n *yaml.Node) (name, problem string) {
	s, ok := n.Value.(string)
	if !ok || permissionForm.MatchString(s) {
		return "", ""
	}
	return findPermissions, fmt.Sprintf("%q are no permission bits: write octal digits such as \"0644\"", s)
}

func checkUserName(n *yaml.Node) (name, problem string) {
	f, ok := n.Value.(yaml.Fields)
	hasName, isSnap := f.Get("name") != nil, f.Get("snapuser") != nil
	switch {
	case !ok || hasName != isSnap:
		return "", ""
	case hasName:
		return findValue, `a user has either a "name" or a "snapuser", not both`
	}
	return findMissing, `the key "name" is missing`
}

// moduleListRule is a list of modules, each by its name or with how often it runs.
func moduleListRule() *rule {
	var names []any
	for _, name := range moduleNames() {
		names = append(names, name)
		if under := strings.ReplaceAll(name, "-", "_"); under != name {
			names = append(names, under)
		}
	}
	return tList(tOne(tEnum(names...), tKind(isList)))
}
