# SPDX-License-Identifier: Apache-2.0
# bash completion for lifeboat(1).  tests/lint/completion.py compares it with the program.

# What may follow: the words of a verb, "VERB" or "GROUP VERB".
_lifeboat_options() {
	local console='--console --console2'
	local archive='--archive --key-file --passphrase-file --identity --key-fd'
	case $1 in
	run)
		echo --kernel --initrd --boot-from-disk --cmdline --memory --cpus --cpu --disk $console --on-reboot \
			--on-crash --name --detach --sandbox ;;
	restore)
		echo $archive --name --disk-dir --paused --eager $console --detach --await-reply --sandbox --quiet \
			--json ;;
	checkpoint) echo $archive --label --compression --timeout --quiet --json ;;
	checkpoints) echo $archive --json ;;
	inspect) echo $archive --stream --raw --json ;;
	console) echo --line --no-replay --timeout ;;
	pause | resume) echo --timeout ;;
	stop) echo --timeout --no-force ;;
	ps | 'host check' | 'guest info') echo --json ;;
	'image build')
		echo --suite --size --kernel --hostname --include --mirror --password-file --quiet ;;
	'disk add') echo --timeout --json ;;
	'disk remove') echo --timeout ;;
	'disk resize') echo --shrink --timeout ;;
	'disk ls') echo --json ;;
	'guest ping' | 'guest time') echo --timeout --json ;;
	'archive init')
		echo $archive --recipient --dedup-domain-of --no-encryption --compression \
			--allow-network-fs ;;
	'archive verify') echo $archive --sample --seed --quiet --json ;;
	'archive ls') echo $archive --streams --json ;;
	'archive stats' | 'archive rebuild-index') echo $archive --quiet --json ;;
	'archive import') echo $archive --label --stream-name --parent --compression --quiet --json ;;
	'archive export') echo $archive --output --range --force --partial --quiet --json ;;
	'archive rm') echo $archive --json ;;
	'archive gc') echo $archive --dry-run --threshold --quiet --json ;;
	'archive pins') echo $archive --owner --json ;;
	'archive repair')
		echo $archive --from --from-file --from-key-file --from-passphrase-file \
			--from-identity --from-key-fd --quiet --json ;;
	'archive copy')
		echo $archive --to --to-key-file --to-passphrase-file --to-identity --to-key-fd --as \
			--all --compression --quiet --json ;;
	esac
	echo --help
}

_lifeboat_verbs() {
	case $1 in
	'') echo run ps console pause resume stop kill checkpoint checkpoints inspect restore \
		archive disk guest host image ;;
	archive) echo init verify ls stats import export copy repair rm gc pins rebuild-index ;;
	disk) echo add remove resize ls ;;
	guest) echo info ping time ;;
	host) echo check ;;
	image) echo build ;;
	esac
}

# Running machines, by name.
_lifeboat_machines() {
	lifeboat ps 2>/dev/null | awk 'NR > 1 { print $1 }'
}

# Disks of a running machine.
_lifeboat_disks() {
	lifeboat disk ls "$1" 2>/dev/null | awk 'NR > 1 { print $1 }'
}

# Checkpoints in the archive, NAME@N.
_lifeboat_checkpoints() {
	lifeboat checkpoints ${1:+--archive "$1"} 2>/dev/null | awk '$1 ~ /@/ { print $1 }'
}

# Values of an option; nothing where they are free text, "-f" or "-d" for paths.
_lifeboat_values() {
	case $1 in
	--from-key-file | --from-passphrase-file | --from-identity | --to-key-file | \
		--to-passphrase-file | --to-identity | \
		--password-file | --kernel | --initrd | --disk | --output | --from-file | --key-file | --passphrase-file | --identity | \
		--recipient) echo -f ;;
	--archive | --to | --from | --dedup-domain-of | --disk-dir) echo -d ;;
	--suite) echo bookworm trixie ;;
	--size | --hostname | --include | --mirror) echo ;;
	--cpu) echo host x86-64-v2 x86-64-v3 x86-64-v4 ;;
	--console | --console2) echo stdio pty none file: ;;
	--on-reboot | --on-crash) echo reboot stop ;;
	--sandbox) echo strict weak ;;
	--compression) echo fast default best ;;
	--stream) echo config state ;;
	--raw) echo config state ram kernel initrd ;;
	--line) echo 1 2 ;;
	--cmdline | --memory | --cpus | --name | --label | --timeout | --await-reply) echo ;;
	--as | --key-fd | --parent | --sample | --seed | --range | --stream-name) echo ;;
	*) return 1 ;;
	esac
}

_lifeboat() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local verb=${COMP_WORDS[1]} first=2 values archive='' i
	COMPREPLY=()

	if ((COMP_CWORD == 1)); then
		COMPREPLY=($(compgen -W "$(_lifeboat_verbs '') --help --version" -- "$word"))
		return
	fi
	if [[ -n $(_lifeboat_verbs "$verb") ]]; then
		if ((COMP_CWORD == 2)); then
			COMPREPLY=($(compgen -W "$(_lifeboat_verbs "$verb") --help" -- "$word"))
			return
		fi
		verb+=" ${COMP_WORDS[2]}"
		first=3
	fi
	for ((i = first; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == --archive ]] && archive=${COMP_WORDS[i + 1]}
	done
	if values=$(_lifeboat_values "$before"); then
		case $values in
		-?) COMPREPLY=($(compgen "$values" -- "$word")) ;;
		*) COMPREPLY=($(compgen -W "$values" -- "$word")) ;;
		esac
		return
	fi
	if [[ $word == -* ]]; then
		COMPREPLY=($(compgen -W "$(_lifeboat_options "$verb")" -- "$word"))
		return
	fi
	case $verb in
	run | image\ build) COMPREPLY=($(compgen -f -- "$word")) ;;
	archive\ init | archive\ stats | archive\ repair | archive\ gc | archive\ rebuild-index)
		COMPREPLY=($(compgen -d -- "$word")) ;;
	archive\ pins)
		COMPREPLY=($(compgen -W "ls add rm $(_lifeboat_checkpoints "$archive")" -- "$word")) ;;
	archive\ import) COMPREPLY=($(compgen -f -- "$word")) ;;
	archive\ *)
		COMPREPLY=($(compgen -W "$(_lifeboat_checkpoints "$archive")" -- "$word")) ;;
	restore | inspect)
		COMPREPLY=($(compgen -W "$(_lifeboat_checkpoints "$archive")" -- "$word")) ;;
	disk\ *)
		case $((COMP_CWORD - first)) in
		0) COMPREPLY=($(compgen -W "$(_lifeboat_machines)" -- "$word")) ;;
		1) if [[ $verb == 'disk add' ]]; then
			COMPREPLY=($(compgen -f -- "$word"))
		else
			COMPREPLY=($(compgen -W "$(_lifeboat_disks "$before")" -- "$word"))
		fi ;;
		esac ;;
	console | pause | resume | stop | kill | checkpoint | checkpoints | guest\ *)
		COMPREPLY=($(compgen -W "$(_lifeboat_machines)" -- "$word")) ;;
	esac
}

# "@" in NAME@N is part of the word.
COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}
complete -o filenames -F _lifeboat lifeboat
