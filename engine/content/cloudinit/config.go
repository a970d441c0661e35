package cloudinit

import (
	"slices"
	"strings"

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
	c := &ruleCheck{work: maxChecked}
	fields, ok := n.Value.(yaml.Fields)
	if !ok {
		c.add(n, "", findType, "want a mapping, got %s", n.Kind())
		return c.findings
	}
	for _, f := range fields {
		name, _ := f.Key.Value.(string)
		if r := config().rule(name); r != nil {
			c.apply(r, f.Value, yaml.JoinPath("", f.Key))
		}
	}
	for _, f := range fields {
		c.topLevel(f)
	}
	return c.with(warnings)
}

// maxChecked bounds the values that a check visits.
const maxChecked = 4_000_000

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

// topLevel reports a key that nothing reads.
func (c *ruleCheck) topLevel(f yaml.Field) {
	name, ok := f.Key.Value.(string)
	if ok && (config().rule(name) != nil || slices.Contains(otherKeys(), name) || strings.HasPrefix(name, "x-")) {
		return
	}
	path := yaml.JoinPath("", f.Key)
	if best := near.Match(name, config().keys); ok && best != "" {
		c.add(f.Key, path, findUnknown, "cloud-init has no such key: did you mean %q?", best)
		return
	}
	c.findings = append(c.findings, yaml.Finding{At: f.Key.At, Path: path, Name: findUnknown, Warning: true, Msg: "cloud-init has no such key"})
}
