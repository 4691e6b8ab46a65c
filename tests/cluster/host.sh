# The first process of a test host; runs in namespaces of its own (mount, uts, ipc, pid, net).
# It lives as long as its standard input is open: when the test ends, however it ends, the kernel
# ends every process of the host and removes its network devices and mounts with it.
#
# HOST_NAME, HOST_FOLDER, HOST_HOME and HOST_SHARED say who and where; HOST_VISIBLE lists folders
# (one a line) that stay visible although a folder of the host's own is mounted above them.
set -eu
hostname "$HOST_NAME"

# The machine's own files can be read but not changed from here.
mkdir -p "$HOST_FOLDER/home" "$HOST_FOLDER/tmp" "$HOST_FOLDER/run"
printf '%s\n' "$HOST_VISIBLE" | while read -r folder; do
  for pair in "$HOST_HOME home" "/tmp tmp"; do
    covered="${pair% *}" own="$HOST_FOLDER/${pair#* }"
    case "$folder/" in "$covered"/*)
      mkdir -p "$own/${folder#"$covered"/}"
      mount --bind "$folder" "$own/${folder#"$covered"/}"
      mount -o remount,bind,ro "$own/${folder#"$covered"/}"
    esac
  done
done
mount -t tmpfs -o size=1g tmpfs /dev/shm
mount -t tmpfs -o size=64m tmpfs /mnt
mkdir -p /mnt/weam_ray
mount --bind "$HOST_SHARED" /mnt/weam_ray
mount --bind "$HOST_FOLDER/hosts" /etc/hosts
: > "$HOST_FOLDER/resolv.conf"
mount --bind "$HOST_FOLDER/resolv.conf" /etc/resolv.conf
mount --bind "$HOST_FOLDER/run" /run
mkdir -p /run/sshd
cp "$HOST_FOLDER/sshd_config" "$HOST_FOLDER/host_key" /run/
mount --rbind "$HOST_FOLDER/home" "$HOST_HOME"
mount --rbind "$HOST_FOLDER/tmp" /tmp
mount -o remount,bind,ro /
cd "$HOST_HOME"

echo mounted
read -r _  # the network is there now
if [ "$HOST_SSHD" = 1 ]; then
  /usr/sbin/sshd -D -e -f /run/sshd_config 2>/run/sshd.log &
fi
echo ready
while read -r _; do :; done
