package cloudinit

func byobu() rules {
	return rules{
		"byobu_by_default": tEnum("enable-system", "enable-user", "disable-system", "disable-user", "enable", "disable", "user", "system"),
	}
}

func disableEc2Metadata() rules {
	return rules{
		"disable_ec2_metadata": tBool(),
	}
}

func finalMessage() rules {
	return rules{
		"final_message": tText(),
	}
}

func installHotplug() rules {
	return rules{
		"updates": tMap(rules{
			"network": tMap(rules{
				"when": tList(tEnum("boot-new-instance", "boot-legacy", "boot", "hotplug")),
			}).needs("when"),
		}),
	}
}

func keyboard() rules {
	return rules{
		"keyboard": tMap(rules{
			"layout":  tText(),
			"model":   tText(),
			"variant": tText(),
			"options": tText(),
		}).needs("layout"),
	}
}

func locale() rules {
	return rules{
		"locale":            tKind(isText | isBool),
		"locale_configfile": tText(),
	}
}

func migrator() rules {
	return rules{
		"migrate": tBool(),
	}
}

func resolvConf() rules {
	return rules{
		"manage_resolv_conf": tBool(),
		"resolv_conf": tMap(rules{
			"nameservers":   tKind(isList),
			"searchdomains": tKind(isList),
			"domain":        tText(),
			"sortlist":      tKind(isList),
			"options":       tOpenMap(nil),
		}),
	}
}

func setHostname() rules {
	return rules{
		"preserve_hostname":         tBool(),
		"hostname":                  tText(),
		"fqdn":                      tText(),
		"prefer_fqdn_over_hostname": tBool(),
	}
}

func timezone() rules {
	return rules{
		"timezone": tText(),
	}
}

func updateEtcHosts() rules {
	return rules{
		"manage_etc_hosts": tOne(tEnum(true, false, "localhost"), tEnum("template").old()),
		"fqdn":             tText(),
		"hostname":         tText(),
	}
}

func updateHostname() rules {
	return rules{
		"preserve_hostname":         tBool(),
		"prefer_fqdn_over_hostname": tBool(),
	}
}

func seedRandom() rules {
	return rules{
		"random_seed": tMap(rules{
			"file":             tText(),
			"data":             tText(),
			"encoding":         tEnum("raw", "base64", "b64", "gzip", "gz"),
			"command":          tList(tText()),
			"command_required": tBool(),
		}),
	}
}

func powerStateChange() rules {
	return rules{
		"power_state": tMap(rules{
			"delay":     tOne(tInt().from(0), tText().match(`^\+?[0-9]+$`).old(), tEnum("now")),
			"mode":      tEnum("poweroff", "reboot", "halt"),
			"message":   tText(),
			"timeout":   tInt(),
			"condition": tOne(tText(), tBool(), tKind(isList)),
		}).needs("mode"),
	}
}
