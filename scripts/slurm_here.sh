#!/usr/bin/env bash
# A Slurm cluster on this machine, for trials and tests: controller, one node, accounting.
#
#   scripts/slurm_here.sh start [CPUS]                     # as root
#   scripts/slurm_here.sh restart-controller [SECONDS]     # after so many without one
#   scripts/slurm_here.sh stop
#
# Debian and Ubuntu: apt-get install slurm-wlm slurmdbd munge mariadb-server. Daemons are started
# directly, without systemd; all they write lies in one folder, SLURM_HERE (/var/tmp/slurm-here), but
# for a link to it, /etc/slurm/slurm.conf, by which all commands find the cluster.
# The node claims CPUS processors (8), more than there may be. Memory limits are held by polling
# (JobAcctGatherParams=OverMemoryKill), which needs no cgroups. A job in the partition `urgent`
# preempts those in `work`, which are requeued.
set -euo pipefail

folder=${SLURM_HERE:-/var/tmp/slurm-here}
link=/etc/slurm/slurm.conf
export SLURM_CONF=$folder/slurm.conf
host=$(hostname -s)

wait_for() {
  local what=$1 end=$((SECONDS + 60))
  shift
  while [ $SECONDS -lt $end ]; do
    if "$@" > /dev/null 2>&1; then return; fi
    sleep 0.5
  done
  echo "$what did not come up in a minute; see $folder/*.log" >&2
  exit 1
}

require() {
  local command missing=()
  for command in munged slurmctld slurmd slurmdbd mariadbd; do
    PATH=$PATH:/usr/sbin command -v $command > /dev/null || missing+=("$command")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "missing: ${missing[*]}; apt-get install slurm-wlm slurmdbd munge mariadb-server" >&2
    exit 1
  fi
  if [ "$(id -u)" != 0 ]; then
    echo "the daemons are started as root; use sudo" >&2
    exit 1
  fi
  if [ -e "$link" ] && ! ours; then
    echo "$link is there: this machine belongs to another cluster" >&2
    exit 1
  fi
}

configure() {
  local cpus=$1 memory
  memory=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
  mkdir -p "$folder"/{state,spool,mysql,munge}
  cat > "$SLURM_CONF" <<EOF
ClusterName=here
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthInfo=socket=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=5,batch_sched_delay=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePass=$folder/munge/socket
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MinJobAge=3600
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory
PartitionName=work Nodes=$host Default=YES PriorityTier=1 GraceTime=5
PartitionName=urgent Nodes=$host PriorityTier=2
EOF
  mkdir -p "${link%/*}"
  ln -sf "$SLURM_CONF" "$link"
  cat > "$folder/slurmdbd.conf" <<EOF
DbdHost=localhost
SlurmUser=root
AuthInfo=socket=$folder/munge/socket
PidFile=$folder/slurmdbd.pid
LogFile=$folder/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
EOF
  chmod 600 "$folder/slurmdbd.conf"
  cat > "$folder/mysql.cnf" <<EOF
[mariadbd]
user=root
datadir=$folder/mysql
socket=$folder/mysql.sock
pid-file=$folder/mariadbd.pid
log-error=$folder/mariadbd.log
skip-networking
innodb_buffer_pool_size=64M
innodb_lock_wait_timeout=900
EOF
}

start() {
  require
  if running slurmctld; then
    echo "it runs already; $0 stop" >&2
    exit 1
  fi
  PATH=$PATH:/usr/sbin
  configure "${1:-8}"
  if [ ! -d "$folder/mysql/mysql" ]; then
    mariadb-install-db --defaults-file="$folder/mysql.cnf" --auth-root-authentication-method=socket \
      > "$folder/mariadb-install.log" 2>&1
  fi
  mariadbd --defaults-file="$folder/mysql.cnf" > /dev/null 2>&1 &
  wait_for mariadbd test -S "$folder/mysql.sock"
  [ -f "$folder/munge/key" ] || (umask 077 && head -c 1024 /dev/urandom > "$folder/munge/key")
  munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge/pid" --seed-file="$folder/munge/seed" \
    --log-file="$folder/munge/log"
  # the client library of the database looks for its socket where the system's lies
  MYSQL_UNIX_PORT=$folder/mysql.sock slurmdbd
  wait_for slurmdbd sacctmgr --noheader list cluster
  sacctmgr --immediate add cluster here > /dev/null 2>&1 || true
  slurmctld
  wait_for slurmctld scontrol ping
  slurmd
  wait_for "the node" sh -c 'sinfo --noheader --format %t | grep -q idle'
  sinfo
}

ours() { [ "$(readlink "$link")" = "$SLURM_CONF" ]; }

running() {
  local pid
  pid=$(cat "$folder/$1.pid" 2> /dev/null) && kill -0 "$pid" 2> /dev/null
}

end() {
  local pid
  pid=$(cat "$1" 2> /dev/null) || return 0
  kill "$pid" 2> /dev/null || return 0
  while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
}

stop() {
  local name
  for name in slurmd slurmctld slurmdbd; do end "$folder/$name.pid"; done
  end "$folder/munge/pid"
  end "$folder/mariadbd.pid"
  if ours; then rm "$link"; fi
  rm -rf "$folder"
}

restart_controller() {
  end "$folder/slurmctld.pid"
  sleep "${1:-0}"
  PATH=$PATH:/usr/sbin slurmctld
  wait_for slurmctld scontrol ping
}

case ${1:-} in
  start) start "${2:-8}" ;;
  restart-controller) restart_controller "${2:-0}" ;;
  stop) stop ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
