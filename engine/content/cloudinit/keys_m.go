package cloudinit

import (
	"b9/engine/content/yaml"
)

// userRule is an element of users. It has a name, or is one of snapd.
func userRule() *rule {
	return tMap(rules{
		"name":                tText(),
		"expiredate":          tText().date(),
		"gecos":               tText(),
		"groups":              tOne(tText(), tList(tText()).min(1), tOpenMap(nil).named(`^.+$`, tNull().old())),
		"homedir":             tText(),
		"inactive":            tText(),
		"lock-passwd":         tBool().old(),
		"lock_passwd":         tBool(),
		"no_create_home":      tBool(),
		"no_log_init":         tBool(),
		"no_user_group":       tBool(),
		"passwd":              tText(),
		"hashed_passwd":       tText(),
		"plain_text_passwd":   tText(),
		"create_groups":       tBool(),
		"primary_group":       tText(),
		"selinux_user":        tText(),
		"shell":               tText(),
		"doas":                tList(tText()).min(1),
		"snapuser":            tText(),
		"ssh_authorized_keys": tList(tText()).min(1),
		"ssh_import_id":       tList(tText()).min(1),
		"ssh_redirect_user":   tBool(),
		"system":              tBool(),
		"sudo":                tOne(tKind(isText|isNull), tList(tKind(isText|isNull)), tBool().old()),
		"uid":                 tOne(tInt(), tText().old()),
	}).check(checkUserName)
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

func caCertsRule() *rule {
	return tMap(rules{
		"remove-defaults": tBool().old(),
		"remove_defaults": tBool(),
		"trusted":         tList(tText()).min(1),
	}).least(1)
}

func rulesMcollective() rules {
	return rules{
		"mcollective": tMap(rules{
			"conf": tMap(rules{
				"public-cert":  tText(),
				"private-cert": tText(),
			}).named(`^.+$`, tOne(tBool(), tInt(), tText())),
		}),
	}
}

func rulesMigrator() rules {
	return rules{
		"migrate": tBool(),
	}
}

func rulesMounts() rules {
	return rules{
		"mounts":               tList(tList(tText()).min(1).max(6)).min(1),
		"mount_default_fields": tList(tOne(tText(), tNull())).min(6).max(6),
		"swap": tMap(rules{
			"filename": tText(),
			"size":     tOne(tEnum("auto"), tInt(), tText().match(`^([0-9]+)?\.?[0-9]+[BKMGT]$`)),
			"maxsize":  tOne(tInt(), tText().match(`^([0-9]+)?\.?[0-9]+[BKMGT]$`)),
		}),
	}
}

func rulesNtp() rules {
	return rules{
		"ntp": tKind(isNull | isMap).with(rules{
			"pools":      tList(tText()).distinct(),
			"servers":    tList(tText()).distinct(),
			"peers":      tList(tText()).distinct(),
			"allow":      tList(tText()).distinct(),
			"ntp_client": tText(),
			"enabled":    tBool(),
			"config": tMap(rules{
				"confpath":     tText(),
				"check_exe":    tText(),
				"packages":     tList(tText()).distinct(),
				"service_name": tText(),
				"template":     tText(),
			}).least(1),
		}).only(),
	}
}

func rulesPackageUpdateUpgradeInstall() rules {
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

func rulesPhoneHome() rules {
	return rules{
		"phone_home": tMap(rules{
			"url":   tText(),
			"post":  tOne(tEnum("all"), tList(tEnum("pub_key_dsa", "pub_key_rsa", "pub_key_ecdsa", "pub_key_ed25519", "instance_id", "hostname", "fqdn"))),
			"tries": tInt(),
		}).needs("url"),
	}
}

func rulesPowerStateChange() rules {
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

func rulesPuppet() rules {
	return rules{
		"puppet": tMap(rules{
			"install":             tBool(),
			"version":             tText(),
			"install_type":        tEnum("packages", "aio"),
			"collection":          tText(),
			"aio_install_url":     tText(),
			"cleanup":             tBool(),
			"conf_file":           tText(),
			"ssl_dir":             tText(),
			"csr_attributes_path": tText(),
			"package_name":        tText(),
			"exec":                tBool(),
			"exec_args":           tList(tText()),
			"start_service":       tBool(),
			"conf": tMap(rules{
				"main":    tOpenMap(nil),
				"server":  tOpenMap(nil),
				"agent":   tOpenMap(nil),
				"user":    tOpenMap(nil),
				"ca_cert": tText(),
			}),
			"csr_attributes": tMap(rules{
				"custom_attributes":  tOpenMap(nil),
				"extension_requests": tOpenMap(nil),
			}),
		}),
	}
}

func rulesResizefs() rules {
	return rules{
		"resize_rootfs": tEnum(true, false, "noblock"),
	}
}

func rulesResolvConf() rules {
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

func rulesRhSubscription() rules {
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

func rulesRsyslog() rules {
	return rules{
		"rsyslog": tMap(rules{
			"config_dir":      tText(),
			"config_filename": tText(),
			"configs": tList(tOne(tText(), tMap(rules{
				"filename": tText(),
				"content":  tText(),
			}).needs("content"))),
			"remotes":                tOpenMap(nil),
			"service_reload_command": tOne(tEnum("auto"), tList(tText())),
			"install_rsyslog":        tBool(),
			"check_exe":              tText(),
			"packages":               tList(tText()).distinct(),
		}),
	}
}

func rulesRuncmd() rules {
	return rules{
		"runcmd": tList(tOne(tList(tText()), tText(), tNull())).min(1),
	}
}

func rulesSaltMinion() rules {
	return rules{
		"salt_minion": tMap(rules{
			"pkg_name":     tText(),
			"service_name": tText(),
			"config_dir":   tText(),
			"conf":         tOpenMap(nil),
			"grains":       tOpenMap(nil),
			"public_key":   tText(),
			"private_key":  tText(),
			"pki_dir":      tText(),
		}),
	}
}

func rulesScriptsVendor() rules {
	return rules{
		"vendor_data": tMap(rules{
			"enabled": tOne(tBool(), tText().old()),
			"prefix":  tKind(isList | isText).each(tKind(isText | isInt)),
		}),
	}
}

func rulesSeedRandom() rules {
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

func rulesSetHostname() rules {
	return rules{
		"preserve_hostname":         tBool(),
		"hostname":                  tText(),
		"fqdn":                      tText(),
		"prefer_fqdn_over_hostname": tBool(),
	}
}

func rulesSetPasswords() rules {
	return rules{
		"ssh_pwauth": tOne(tBool(), tText().old()),
		"chpasswd": tMap(rules{
			"expire": tBool(),
			"users": tList(tOpenMap(nil).min(1).anyOf(tAny().with(rules{
				"name": tText(),
				"type": tEnum("RANDOM"),
			}).only().needs("name", "type"), tAny().with(rules{
				"name":     tText(),
				"type":     tEnum("hash", "text"),
				"password": tText(),
			}).only().needs("name", "password"))),
			"list": tAny().oneOf(tText(), tList(tText().match(`^.+:.+$`))).min(1).old(),
		}),
		"password": tText(),
	}
}

func rulesSnap() rules {
	return rules{
		"snap": tMap(rules{
			"assertions": tKind(isMap | isList).others(tText()).each(tText()).min(1).least(1).distinct(),
			"commands":   tKind(isMap | isList).others(tOne(tText(), tList(tText()))).each(tOne(tText(), tList(tText()))).min(1).least(1),
		}).least(1),
	}
}

func rulesSpacewalk() rules {
	return rules{
		"spacewalk": tMap(rules{
			"server":         tText(),
			"proxy":          tText(),
			"activation_key": tText(),
		}),
	}
}

func rulesSshAuthkeyFingerprints() rules {
	return rules{
		"no_ssh_fingerprints": tBool(),
		"authkey_hash":        tText(),
	}
}

func rulesSshImportId() rules {
	return rules{
		"ssh_import_id": tList(tText()),
	}
}

func rulesSsh() rules {
	return rules{
		"ssh_keys":              tMap(nil).named(`^(dsa|ecdsa|ed25519|rsa)_(public|private|certificate)$`, tText()),
		"ssh_authorized_keys":   tList(tText()).min(1),
		"ssh_deletekeys":        tBool(),
		"ssh_genkeytypes":       tList(tEnum("dsa", "ecdsa", "ed25519", "rsa")).min(1),
		"disable_root":          tBool(),
		"disable_root_opts":     tText(),
		"allow_public_ssh_keys": tBool(),
		"ssh_quiet_keygen":      tBool(),
		"ssh_publish_hostkeys": tMap(rules{
			"enabled":   tBool(),
			"blacklist": tList(tText()),
		}),
	}
}

func rulesTimezone() rules {
	return rules{
		"timezone": tText(),
	}
}

func rulesUbuntuAdvantage() rules {
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

func rulesUbuntuDrivers() rules {
	return rules{
		"drivers": tMap(rules{
			"nvidia": tMap(rules{
				"license-accepted": tBool(),
				"version":          tText(),
			}).needs("license-accepted"),
		}),
	}
}

func rulesUpdateEtcHosts() rules {
	return rules{
		"manage_etc_hosts": tOne(tEnum(true, false, "localhost"), tEnum("template").old()),
		"fqdn":             tText(),
		"hostname":         tText(),
	}
}

func rulesUpdateHostname() rules {
	return rules{
		"preserve_hostname":         tBool(),
		"prefer_fqdn_over_hostname": tBool(),
	}
}

func rulesUsersGroups() rules {
	return rules{
		"groups": tKind(isText|isMap|isList).only().named(`^.+$`, tKind(isText|isList).each(tText()).min(1)).each(tKind(isText|isMap).only().named(`^.+$`, tKind(isText|isList).each(tText()).min(1))).min(1),
		"user":   tOne(tText(), userRule()),
		"users":  tKind(isText | isList | isMap).each(tOne(tText(), tList(tText()), userRule())),
	}
}

func rulesWireguard() rules {
	return rules{
		"wireguard": tKind(isNull | isMap).with(rules{
			"interfaces": tList(tMap(rules{
				"name":        tText(),
				"config_path": tText(),
				"content":     tText(),
			})).min(1),
			"readinessprobe": tList(tText()).distinct(),
		}).only().needs("interfaces").least(1),
	}
}

func rulesWriteFiles() rules {
	return rules{
		"write_files": tList(tMap(rules{
			"path":        tText(),
			"content":     tText(),
			"source":      tMap(rules{"uri": tText(), "headers": tOpenMap(nil).others(tText())}).needs("uri"),
			"owner":       tText(),
			"permissions": tText().check(checkPermissions),
			"encoding":    tEnum("gz", "gzip", "gz+base64", "gzip+base64", "gz+b64", "gzip+b64", "b64", "base64", "text/plain"),
			"append":      tBool(),
			"defer":       tBool(),
		}).needs("path")).min(1),
	}
}

// checkYumRepo holds a repository to an address, of which later versions of
// cloud-init take three kinds.
func checkYumRepo(n *yaml.Node) (name, problem string) {
	fields, ok := n.Value.(yaml.Fields)
	if !ok || fields.Get("baseurl") != nil || fields.Get("metalink") != nil || fields.Get("mirrorlist") != nil {
		return "", ""
	}
	return findMissing, `the key "baseurl" is missing`
}

func rulesYumAddRepo() rules {
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

func rulesZypperAddRepo() rules {
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

func rulesReportingConfig() rules {
	return rules{
		"reporting": tMap(nil).named(`^.+$`, tOpenMap(nil).oneOf(tAny().with(rules{
			"type":  tEnum("log"),
			"level": tEnum("DEBUG", "INFO", "WARN", "ERROR", "FATAL"),
		}).only().needs("type"), tAny().with(rules{
			"type": tEnum("print"),
		}).only().needs("type"), tAny().with(rules{
			"type":            tEnum("webhook"),
			"endpoint":        tText(),
			"consumer_key":    tText(),
			"token_key":       tText(),
			"token_secret":    tText(),
			"consumer_secret": tText(),
			"timeout":         tReal().from(0),
			"retries":         tInt().from(0),
		}).only().needs("type", "endpoint"), tAny().with(rules{
			"type":          tEnum("hyperv"),
			"kvp_file_path": tText(),
			"event_types":   tList(tText()),
		}).only().needs("type"))),
	}
}
