package cloudinit

import "b9.build/b9/engine/content/yaml"

func apkConfigure() rules {
	return rules{
		"apk_repos": tMap(rules{
			"preserve_repositories": tBool(),
			"alpine_repo": tKind(isMap | isNull).with(rules{
				"base_url":          tText(),
				"community_enabled": tBool(),
				"testing_enabled":   tBool(),
				"version":           tText(),
			}).only().needs("version").least(1),
			"local_repo_base_url": tText(),
		}).least(1),
	}
}

func aptConfigure() rules {
	return rules{
		"apt": tMap(rules{
			"preserve_sources_list": tBool(),
			"generate_mirrorlists":  tBool(),
			"disable_suites":        tList(tText()).min(1).distinct(),
			"primary":               aptMirrorRule(),
			"security":              aptMirrorRule(),
			"add_apt_repo_match":    tText(),
			"debconf_selections":    tMap(nil).least(1).named(`^.+$`, tText()),
			"sources_list":          tText(),
			"conf":                  tText(),
			"https_proxy":           tText(),
			"http_proxy":            tText(),
			"proxy":                 tText(),
			"ftp_proxy":             tText(),
			"sources": tMap(nil).named(`^.+$`, tMap(rules{
				"source":    tText(),
				"keyid":     tText(),
				"key":       tText(),
				"keyserver": tText(),
				"filename":  tText(),
				"append":    tBool(),
			}).least(1)),
		}).least(1),
	}
}

func aptPipelining() rules {
	return rules{
		"apt_pipelining": tOne(tInt(), tBool(), tEnum("none", "unchanged", "os")),
	}
}

func aptMirrorRule() *rule {
	return tList(tMap(rules{
		"arches":     tList(tText()).min(1),
		"uri":        tText(),
		"search":     tList(tText()).min(1),
		"search_dns": tBool(),
		"keyid":      tText(),
		"key":        tText(),
		"keyserver":  tText(),
	}).needs("arches")).min(1)
}

func caCerts() rules {
	return rules{
		"ca_certs": caCertsRule(),
		"ca-certs": caCertsRule().old(),
	}
}

func caCertsRule() *rule {
	return tMap(rules{
		"remove-defaults": tBool().old(),
		"remove_defaults": tBool(),
		"trusted":         tList(tText()).min(1),
	}).least(1)
}

func packageUpdateUpgradeInstall() rules {
	one := tOne(tList(tText()).min(2).max(2), tText())
	return rules{
		"packages": tList(tOne(tList(tText()).min(2).max(2), tText(), tMap(rules{
			"apt":  tList(one),
			"snap": tList(one),
		}))).min(1),
		"package_update":             tBool(),
		"package_upgrade":            tBool(),
		"package_reboot_if_required": tBool(),
		"apt_update":                 tBool().old(),
		"apt_upgrade":                tBool().old(),
		"apt_reboot_if_required":     tBool().old(),
	}
}

func snap() rules {
	return rules{
		"snap": tMap(rules{
			"assertions": tKind(isMap | isList).others(tText()).each(tText()).min(1).least(1).distinct(),
			"commands":   tKind(isMap | isList).others(tOne(tText(), tList(tText()))).each(tOne(tText(), tList(tText()))).min(1).least(1),
		}).least(1),
	}
}

func yumAddRepo() rules {
	return rules{
		"yum_repo_dir": tText(),
		"yum_repos": tMap(nil).least(1).named(`^[0-9a-zA-Z -_]+$`, tMap(rules{
			"baseurl":    tText(),
			"metalink":   tText(),
			"mirrorlist": tText(),
			"name":       tText(),
			"enabled":    tBool(),
		}).named(`^[0-9a-zA-Z_]+$`, tOne(tInt(), tBool(), tText())).check(checkYumRepo)),
	}
}

// checkYumRepo holds a repository to an address, of which later versions of
// cloud-init accept three kinds.
func checkYumRepo(n *yaml.Node) (name, problem string) {
	fields, ok := n.Value.(yaml.Fields)
	if !ok || fields.Get("baseurl") != nil || fields.Get("metalink") != nil || fields.Get("mirrorlist") != nil {
		return "", ""
	}
	return findMissing, `the key "baseurl" is missing`
}

func zypperAddRepo() rules {
	return rules{
		"zypper": tOpenMap(rules{
			"repos": tList(tOpenMap(rules{
				"id":      tText(),
				"baseurl": tText(),
			}).needs("id", "baseurl")).min(1),
			"config": tOpenMap(nil),
		}).least(1),
	}
}

func rhSubscription() rules {
	return rules{
		"rh_subscription": tMap(rules{
			"username":        tText(),
			"password":        tText(),
			"activation-key":  tText(),
			"org":             tKind(isText | isInt),
			"auto-attach":     tBool(),
			"service-level":   tText(),
			"add-pool":        tList(tText()),
			"enable-repo":     tList(tText()),
			"disable-repo":    tList(tText()),
			"rhsm-baseurl":    tText(),
			"server-hostname": tText(),
			"activation_key":  tText(),
			"auto_attach":     tBool(),
			"service_level":   tText(),
			"add_pool":        tList(tText()),
			"enable_repo":     tList(tText()),
			"disable_repo":    tList(tText()),
			"rhsm_baseurl":    tText(),
			"server_hostname": tText(),
			"release_version": tText(),
		}),
	}
}

func spacewalk() rules {
	return rules{
		"spacewalk": tMap(rules{
			"server":         tText(),
			"proxy":          tText(),
			"activation_key": tText(),
		}),
	}
}

func ubuntuAdvantage() rules {
	return rules{
		"ubuntu_advantage": tMap(rules{
			"enable":      tList(tText()),
			"enable_beta": tList(tText()),
			"token":       tText(),
			"features": tMap(rules{
				"disable_auto_attach": tBool(),
			}),
			"config": tOpenMap(rules{
				"http_proxy":             tKind(isText | isNull),
				"https_proxy":            tKind(isText | isNull),
				"global_apt_http_proxy":  tKind(isText | isNull),
				"global_apt_https_proxy": tKind(isText | isNull),
				"ua_apt_http_proxy":      tKind(isText | isNull),
				"ua_apt_https_proxy":     tKind(isText | isNull),
			}),
		}),
	}
}

func ubuntuDrivers() rules {
	return rules{
		"drivers": tMap(rules{
			"nvidia": tMap(rules{
				"license-accepted": tBool(),
				"version":          tText(),
			}).needs("license-accepted"),
		}),
	}
}

func ubuntuAutoinstall() rules {
	return rules{
		"autoinstall": tOpenMap(rules{
			"version": tInt(),
		}).needs("version"),
	}
}
