package cloudinit

import "b9.build/b9/engine/content/yaml"

// CheckNetwork finds the mistakes in a network configuration of version
// 1 or 2 (of which netplan says what is valid), which may also stand below the key "network", and joins to them the
// warnings of reading it.
func CheckNetwork(n *yaml.Node, warnings []yaml.Finding) []yaml.Finding {
	path := ""
	if fields, ok := n.Value.(yaml.Fields); ok && fields.Get("network") != nil {
		n, path = fields.Get("network"), "network"
	}
	c := &ruleCheck{work: maxChecked}
	if r := c.networkVersion(n, path); r != nil {
		c.apply(r, n, path)
		switch r {
		case networkV1():
			c.netmasks(n, path)
		case networkV2():
			c.netplan(n, path)
		}
	}
	return c.with(warnings)
}

// networkVersion chooses the table; nil after a mistake, or where the network
// is not to be configured at all.
func (c *ruleCheck) networkVersion(n *yaml.Node, path string) *rule {
	fields, ok := n.Value.(yaml.Fields)
	if !ok {
		c.add(n, path, findType, "want a mapping, got %s", n.Kind())
		return nil
	}
	if config := fields.Get("config"); config != nil && config.Value == any("disabled") {
		return nil
	}
	version := fields.Get("version")
	switch {
	case version == nil:
		c.add(n, path, findMissing, `the key "version" is missing: give 1 or 2`)
	case version.Value == any(int64(1)):
		return networkV1()
	case version.Value == any(int64(2)):
		return networkV2()
	default:
		c.add(version, yaml.JoinPath(path, &yaml.Node{Value: "version"}), findValue, "unknown version %s (have 1, 2)", version.Show())
	}
	return nil
}
