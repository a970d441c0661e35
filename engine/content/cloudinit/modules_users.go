package cloudinit

import "strings"

// userRule is an element of users. It has a name, or is one of snapd.
func userRule() *rule {
	fields := rules{
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
	}
	for _, name := range []string{
		"create_groups", "hashed_passwd", "no_create_home", "no_log_init", "no_user_group", "plain_text_passwd", "primary_group",
		"selinux_user", "ssh_authorized_keys", "ssh_import_id", "ssh_redirect_user",
	} {
		spelling := *fields[name]
		fields[strings.ReplaceAll(name, "_", "-")] = spelling.old()
	}
	return tMap(fields).check(checkUserName)
}

func usersGroups() rules {
	return rules{
		"groups": tKind(isText|isMap|isList).only().named(`^.+$`, tKind(isText|isList).each(tText()).min(1)).each(tKind(isText|isMap).only().named(`^.+$`, tKind(isText|isList).each(tText()).min(1))).min(1),
		"user":   tOne(tText(), userRule()),
		"users":  tKind(isText | isList | isMap).each(tOne(tText(), tList(tText()), userRule())),
	}
}

func setPasswords() rules {
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

func ssh() rules {
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

func sshAuthkeyFingerprints() rules {
	return rules{
		"no_ssh_fingerprints": tBool(),
		"authkey_hash":        tText(),
	}
}

func sshImportID() rules {
	return rules{
		"ssh_import_id": tList(tText()),
	}
}

func keysToConsole() rules {
	return rules{
		"ssh": tMap(rules{
			"emit_keys_to_console": tBool(),
		}).needs("emit_keys_to_console"),
		"ssh_key_console_blacklist": tList(tText()).distinct(),
		"ssh_fp_console_blacklist":  tList(tText()).distinct(),
	}
}
